"""What a fit tells of itself after every round, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

#: Coefficients of shape (n_problems, n_features) and intercepts of shape (n_problems,).
Model = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Progress:
    """Where a fit stands after a round.

    Attributes
    ----------
    n_rounds : int
        Passes over the data so far.
    n_iter : int
        Iterations of the problem that has had most of them.
    objective : float
        Summed over the problems.
    relative_gap : float
        The largest relative duality gap; infinite where there is none.
    optimality : float
        The largest relative optimality, which is the stopping rule where there is no gap; NaN
        where the method does not know it.
    model : callable
        Returns the coefficients and intercepts reached, for the columns of X as they were given.
        It costs nothing until it is called, and may be called until the next round begins.
    """

    n_rounds: int
    n_iter: int
    objective: float
    relative_gap: float
    optimality: float
    model: Callable[[], Model]


class Observer(Protocol):
    """Whoever watches a fit.

    Attributes
    ----------
    stopped : bool
        Whether the fit is to end; read after every round.
    """

    stopped: bool

    def tell(self, progress: Progress) -> None:
        """Take note of a round."""
        ...


class Translated:
    """An observer that is told something else than the loop says; see `Observer`.

    Parameters
    ----------
    observer : Observer
        Who is told.
    change : callable
        ``change(progress)`` returns what the observer is told.
    """

    def __init__(self, observer: Observer, change: Callable[[Progress], Progress]) -> None:
        self._observer = observer
        self._change = change

    @property
    def stopped(self) -> bool:
        """As the observer's."""
        return self._observer.stopped

    @stopped.setter
    def stopped(self, value: bool) -> None:
        self._observer.stopped = value

    def tell(self, progress: Progress) -> None:
        """Tell the observer what becomes of the progress."""
        self._observer.tell(self._change(progress))


def with_model(observer: Observer | None, change: Callable[[Model], Model]) -> Observer | None:
    """Return an observer that is told of other coordinates than the loop works in."""
    if observer is None:
        return None

    def changed(progress: Progress) -> Progress:
        return replace(progress, model=lambda: change(progress.model()))

    return Translated(observer, changed)


def continued(observer: Observer | None, n_iter: int) -> Observer | None:
    """Return an observer of a solver that goes on after some iterations of another."""
    if observer is None:
        return None
    return Translated(observer, lambda p: replace(p, n_iter=p.n_iter + n_iter))


@dataclass(frozen=True)
class Ended:
    """What counts of a problem that has left the batch.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        Coefficients.
    intercept : float
        Intercept.
    objective, relative_gap : float
        Reached.
    """

    coef: np.ndarray
    intercept: float
    objective: float
    relative_gap: float


def together_with(
    observer: Observer | None, ended: Mapping[int, Ended], active: list[int]
) -> Observer | None:
    """Return an observer of some problems of a batch, which is told of the whole batch.

    Parameters
    ----------
    observer : Observer or None
        Who is told.
    ended : mapping of int to Ended
        The problems that are not solved any more, by number.
    active : list of int
        The numbers of the others, in the order of the loop.
    """
    rest = {number: one for number, one in ended.items() if number not in active}
    if observer is None or not rest:
        return observer

    def whole(progress: Progress) -> Progress:
        def model() -> Model:
            coef, intercept = progress.model()
            rows = {number: (one.coef, one.intercept) for number, one in rest.items()}
            rows |= {n: (coef[at], intercept[at]) for at, n in enumerate(active)}
            order = sorted(rows)
            return np.array([rows[n][0] for n in order]), np.array([rows[n][1] for n in order])

        return replace(
            progress,
            objective=progress.objective + sum(one.objective for one in rest.values()),
            relative_gap=max(progress.relative_gap, *(one.relative_gap for one in rest.values())),
            model=model,
        )

    return Translated(observer, whole)
