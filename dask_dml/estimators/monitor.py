"""What a user sees of a fit while it runs: callbacks, and lines of text."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask_dml.input.chunks import Chunks
from dask_dml.solvers.progress import Model, Progress

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9
    from dask_dml.estimators.callback_support import CallbackSupportMixin, with_callbacks

__all__ = ["CallbackSupportMixin", "FitMonitor", "with_callbacks"]

#: Name of the task that callbacks see after every round.
ROUND = "round"
#: Seconds of compilation on workers from which on a line tells of it.
WORTH_TELLING = 0.5


class FitMonitor:
    """Watches one fit for its callbacks; see `dask_dml.solvers.progress.Observer`.

    Parameters
    ----------
    estimator : estimator
        Being fitted, by a method that is decorated with `with_callbacks`.
    X, y, sample_weight : object
        As the fit got them; callbacks may ask for them.

    Attributes
    ----------
    stopped : bool
        Whether a callback has ended the fit.
    history : dict of str to list
        Passes, seconds, objective and relative duality gap after every round.
    report : callable or None
        Takes lines of text.
    rounds : Rounds or None
        The rounds, once they are open.
    nbytes : float
        Bytes of X; NaN where they are not known.
    model : callable or None
        ``model(coef, intercept)`` returns the fitted attributes of a model.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any = None) -> None:
        self.stopped = False
        self.model: Callable[..., dict[str, Any]] | None = None
        self.nbytes = math.nan
        self.report: Callable[[str], None] | None = estimator._report(estimator.verbose)
        self._estimator = estimator
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self._given = {"X": X, "y": y, "metadata": metadata}
        self.history: dict[str, list[float]] = {
            name: [] for name in ("n_rounds", "seconds", "objective", "relative_gap")
        }
        self._progress: Progress | None = None
        self._begun = self._before = time.monotonic()
        self._compiled = 0.0
        self._rounds_before = 0
        self.rounds: Any = None
        self._watched = bool(getattr(estimator, "_skl_callbacks", ()))
        self._context = estimator._init_callback_context(max_subtasks=None)
        self._context.call_on_fit_task_begin(estimator=estimator, **self._given)

    def tell(self, progress: Progress) -> None:
        """Call the callbacks after a round."""
        self._progress = progress
        told = (progress.n_rounds, self.seconds, progress.objective, progress.relative_gap)
        for values, value in zip(self.history.values(), told, strict=True):
            values.append(value)
        if not self._watched:
            return
        task = self._context.subcontext(task_name=ROUND)
        task.call_on_fit_task_begin(estimator=self._estimator, **self._given)
        stop = task.call_on_fit_task_end(
            estimator=self._estimator,
            **self._given,
            reconstruction_attributes=lambda: self._attributes(progress),
        )
        self.stopped |= bool(stop)

    def _attributes(self, progress: Progress) -> dict[str, Any]:
        assert self.model is not None
        model: Model = progress.model()
        return {
            **self.model(*model),
            "n_iter_": progress.n_iter,
            "n_rounds_": progress.n_rounds,
            "duality_gap_": progress.relative_gap,
            "loss_curve_": list(self.history["objective"]),
            "converged_": False,
        }

    @property
    def seconds(self) -> float:
        """Seconds since the fit began."""
        return time.monotonic() - self._begun

    def end(self) -> None:
        """Record the fit in the estimator, and call the callbacks with it."""
        self._estimator.fit_seconds_ = self.seconds
        if self.history["n_rounds"]:
            self._estimator.history_ = self.history
        self._context.call_on_fit_task_end(
            estimator=self._estimator, **self._given, reconstruction_attributes=dict
        )

    def lines(self, limits: str) -> Callable[[str], None]:
        """Return what a solver hands its lines to; it adds seconds, the rate and the limits."""
        report = self.report
        assert report is not None
        return lambda line: report(f"{line} ({self._pace(limits)})")

    def _pace(self, limits: str) -> str:
        now = time.monotonic()
        told = [f"{now - self._begun:.2f} s"]
        if self._progress is not None:
            rounds = self._progress.n_rounds - self._rounds_before
            rate = rounds * self.nbytes / max(now - self._before, 1e-9)
            self._rounds_before += rounds
            if rounds and math.isfinite(rate):
                told.append(f"{rate / 1e9:.2g} GB/s")
            told.insert(0, f"iteration {self._progress.n_iter}")
        compiled = getattr(self.rounds, "compile_seconds", 0.0)
        if compiled - self._compiled > WORTH_TELLING:
            told.append(f"{compiled - self._compiled:.1f} s of it compiling kernels, once")
        self._compiled = compiled
        self._before = now
        return f"{', '.join(told)}; {limits}"


def stopped(monitor: FitMonitor | None) -> bool:
    """Whether a callback has ended the fit."""
    return monitor is not None and monitor.stopped


@contextmanager
def watching(
    monitor: FitMonitor | None, rounds: Any, chunks: Chunks, model: Callable[..., dict[str, Any]]
) -> Iterator[None]:
    """Have a fit watched while it makes rounds.

    Parameters
    ----------
    monitor : FitMonitor or None
        Nobody, if None.
    rounds : Rounds
        The rounds.
    chunks : Chunks
        The input.
    model : callable
        ``model(coef, intercept)`` returns the fitted attributes of a model.
    """
    if monitor is None:
        yield
        return
    monitor.rounds, monitor.nbytes, monitor.model = rounds, chunks.nbytes, model
    with told_of_compiling(monitor.report):
        yield


@contextmanager
def told_of_compiling(report: Callable[[str], None] | None) -> Iterator[None]:
    """Report it when the first kernel is compiled in this process, which takes seconds.

    Parameters
    ----------
    report : callable or None
        Takes the line; None reports nothing.
    """
    if report is None:
        yield
        return
    from numba.core.event import Listener, install_listener

    said = False

    def say() -> None:
        nonlocal said
        if not said:
            said = True
            report("round 1: compiling kernels, once; later fits find them on disk")

    class Compiling(Listener):
        def on_start(self, event: Any) -> None:  # noqa: ARG002  # numba's protocol
            say()

        def on_end(self, event: Any) -> None:
            pass

    with install_listener("numba:compile", Compiling()):
        yield
