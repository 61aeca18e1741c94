"""Scikit-learn's callback protocol for releases of scikit-learn that are older than it.

The names, hooks and rules are those of `sklearn.callback`: a callback written for one works with
the other.  Callbacks are not passed on to the steps of a pipeline or search, which takes a release
that has the module.
"""

from __future__ import annotations

import functools
import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from typing import Any, Self

#: What a callback has to have.
HOOKS = ("setup", "teardown", "on_fit_task_begin", "on_fit_task_end")
#: What a hook may ask for by keyword.
ARGUMENTS = ("X", "y", "metadata", "fitted_estimator")


class CallbackContext:
    """A task of a fit, as `sklearn.callback.CallbackContext` describes it.

    Attributes
    ----------
    estimator_name, task_name : str
        What is fitted, and what is being done.
    task_id : int
        Number of the task among those of its parent.
    max_subtasks : int or None
        Largest number of tasks below this one; None where it is not known.
    sequential_subtasks : bool
        Whether those follow each other.
    parent : CallbackContext or None
        The task that this one is a part of.
    root_uuid : UUID
        Identifies the fit.
    init_time : datetime
        When the task began (UTC).
    source_estimator_name, source_task_name : None
        Tasks of several estimators are not joined here.
    """

    root_uuid: uuid.UUID
    source_estimator_name: str | None = None
    source_task_name: str | None = None

    def __init__(
        self,
        callbacks: list[Any],
        estimator_name: str,
        task_name: str,
        task_id: int,
        max_subtasks: int | None,
        parent: CallbackContext | None = None,
    ) -> None:
        self.estimator_name, self.task_name, self.task_id = estimator_name, task_name, task_id
        self.max_subtasks, self.sequential_subtasks = max_subtasks, True
        self.parent = parent
        self.root_uuid = uuid.uuid4() if parent is None else parent.root_uuid
        self.init_time = datetime.now(UTC)
        self._callbacks = callbacks
        self._n_subtasks = 0

    def subcontext(self, task_name: str = "", *, max_subtasks: int | None = 0) -> CallbackContext:
        """Return the context of the next task below this one."""
        self._n_subtasks += 1
        return CallbackContext(
            self._callbacks,
            self.estimator_name,
            task_name,
            self._n_subtasks - 1,
            max_subtasks,
            self,
        )

    def call_on_fit_task_begin(self, *, estimator: Any, **given: Any) -> CallbackContext:
        """Call the hooks for the beginning of the task."""
        self._call("on_fit_task_begin", estimator, given)
        return self

    def call_on_fit_task_end(self, *, estimator: Any, **given: Any) -> bool:
        """Call the hooks for the end of the task; return whether one of them asks to stop."""
        return self._call("on_fit_task_end", estimator, given)

    def _call(self, hook: str, estimator: Any, given: dict[str, Any]) -> bool:
        known: dict[str, Any] = {}

        def value(name: str) -> Any:
            if name not in known:
                found = given.get("reconstruction_attributes" if _is_model(name) else name)
                found = found() if callable(found) else found
                if _is_model(name) and found is not None:
                    attributes, found = found, copy(estimator)
                    vars(found).update(attributes)
                known[name] = found
            return known[name]

        stop = False
        for callback in self._callbacks:
            method = getattr(callback, hook)
            wanted = {name: value(name) for name in _keywords(callback, method)}
            stop |= bool(method(estimator, self, **wanted))
        return stop


def _is_model(name: str) -> bool:
    return name == "fitted_estimator"


def _keywords(callback: Any, method: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    names = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    unknown = sorted(set(names) - set(ARGUMENTS))
    if unknown:
        raise TypeError(
            f"{method.__name__} of {type(callback).__name__} takes {unknown}; a hook may take "
            f"{list(ARGUMENTS)} by keyword."
        )
    return names


class CallbackSupportMixin:
    """`sklearn.callback.CallbackSupportMixin` where scikit-learn has none."""

    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set the callbacks of all later fits.

        Parameters
        ----------
        *callbacks : callback instances
            They replace those that were set before.  A call without any removes them.

        Returns
        -------
        self : estimator
            The estimator.

        Raises
        ------
        TypeError
            If an argument is not an instance of a callback.
        """
        for callback in callbacks:
            if isinstance(callback, type) or not all(hasattr(callback, name) for name in HOOKS):
                raise TypeError(
                    f"callbacks must be instances with the methods {', '.join(HOOKS)}; got "
                    f"{callback!r}."
                )
        vars(self).pop("_skl_callbacks", None)
        if callbacks:
            self._skl_callbacks = list(callbacks)
        return self

    def __sklearn_clone__(self) -> Any:
        other = super().__sklearn_clone__()  # type: ignore[misc]  # BaseEstimator's
        if "_skl_callbacks" in vars(self):
            other._skl_callbacks = self._skl_callbacks
        return other

    def _init_callback_context(self, *, max_subtasks: int | None = 0) -> CallbackContext:
        callbacks = getattr(self, "_skl_callbacks", [])
        context = CallbackContext(callbacks, type(self).__name__, "fit", 0, max_subtasks)
        self._callback_fit_ctx = context
        self._skl_callbacks_to_teardown: list[Any] = []
        for callback in callbacks:
            self._skl_callbacks_to_teardown.append(callback)
            callback.setup(self, context)
        return context


@contextmanager
def _torn_down(estimator: Any) -> Iterator[None]:
    try:
        yield
    finally:
        context = vars(estimator).pop("_callback_fit_ctx", None)
        errors = []
        for callback in vars(estimator).pop("_skl_callbacks_to_teardown", []):
            try:
                callback.teardown(estimator, context)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("callbacks failed to end", errors)


def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that ends the callbacks of its estimator, whatever it raises."""

    @functools.wraps(method)
    def managed(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        with _torn_down(estimator):
            return method(estimator, *args, **kwargs)

    return managed
