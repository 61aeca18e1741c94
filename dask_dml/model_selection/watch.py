"""What callbacks are told of searches whose fits share their passes over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from dask_dml.estimators.monitor import ROUND

if TYPE_CHECKING:
    from dask_dml.solvers.shared_rounds import UnderWay

#: Given an estimator that is to be fitted, passes callbacks on to it as long as it is open.
Propagation = Callable[[Any], AbstractContextManager[None]]


class SearchMonitor:
    """Watches a search for its callbacks, which see a task for each of its stages.

    Fits that share passes are under way together, so that no task belongs to one of them: below a
    stage there is a task for every pass.  A search does not end before its time, whatever its
    callbacks ask for.

    Parameters
    ----------
    search : estimator
        Being fitted, by a method that is decorated with `with_callbacks`.
    X, y, sample_weight : object
        As the search got them; callbacks may ask for them.
    n_stages : int
        How many there will be.
    """

    def __init__(self, search: Any, X: Any, y: Any, sample_weight: Any, n_stages: int) -> None:
        self._verbose = search.verbose > 0
        self._n_passes = 0
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"estimator": search, "X": X, "y": y, "metadata": metadata}
        self._watched = bool(getattr(search, "_skl_callbacks", ()))
        self._context = search._init_callback_context(max_subtasks=n_stages)
        self._context.call_on_fit_task_begin(**self._given)
        self._stage: Any = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Propagation]:
        """Tell of a part of the search; passes and fits within are part of it."""
        self._stage = self._context.subcontext(task_name=name, max_subtasks=None)
        self._stage.call_on_fit_task_begin(**self._given)
        yield self._passed_on
        self._stage.call_on_fit_task_end(**self._given)
        self._stage = None

    @contextmanager
    def _passed_on(self, estimator: Any) -> Iterator[None]:
        task = self._stage.subcontext(task_name="fit")
        # Older releases of scikit-learn pass nothing on.
        with getattr(task, "propagate_callback_context", nullcontext)(estimator):
            task.call_on_fit_task_begin(**self._given)
            yield
            task.call_on_fit_task_end(**self._given)

    def after_round(self, under_way: UnderWay) -> None:
        """Tell of a pass that has served all fits that are under way."""
        self._n_passes += 1
        if under_way.n_fits > 1:
            self.say(
                f"pass {self._n_passes}: {under_way.candidates} of {under_way.n_candidates} "
                f"candidates, {under_way.fits} of {under_way.n_fits} fits under way"
            )
        if self._watched and self._stage is not None:
            task = self._stage.subcontext(task_name=ROUND)
            task.call_on_fit_task_begin(**self._given)
            task.call_on_fit_task_end(**self._given)

    def say(self, line: str) -> None:
        """Print a line where the search is verbose."""
        if self._verbose:
            print(line, flush=True)

    def end(self) -> None:
        """Tell of the end of the search."""
        self._context.call_on_fit_task_end(**self._given, reconstruction_attributes=dict)
