"""What `partial_fit` leaves for the next call: arrays only, and no module that compiles anything.

A fitted estimator holds it, and has to unpickle and predict where nothing is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dask_dml.objective.losses import Loss
from dask_dml.passes.partials import Statistics
from dask_dml.solvers.sgd.partials import Survey

#: Calls in succession, and rows in them, that are strange before a user is told.
STRANGE_CALLS, STRANGE_ROWS = 3, 1000


@dataclass(frozen=True)
class Parabola:
    """Sums of parabolas ``v'Hv / 2 - b'v + c`` of coefficients and an intercept, intercept last.

    Attributes
    ----------
    hessian : ndarray of shape (n_outputs, n_features + 1, n_features + 1) or (1, ...)
        Second derivatives; one that all outputs share with squared error.
    linear : ndarray of shape (n_outputs, n_features + 1)
        Minus the slopes at zero.
    constant : ndarray of shape (n_outputs,)
        Values at zero.
    """

    hessian: np.ndarray
    linear: np.ndarray
    constant: np.ndarray

    @classmethod
    def of_statistics(
        cls, found: Statistics, mean: np.ndarray, target_mean: np.ndarray
    ) -> Parabola:
        """Return the parabola of squared error, in coordinates relative to the given means."""
        step, target_step = found.mean - mean, found.target_mean - target_mean
        p = len(mean)
        lower = np.tril(found.products)
        hessian = np.empty((1, p + 1, p + 1))
        hessian[0, :p, :p] = lower + np.tril(lower, -1).T + found.weight * np.outer(step, step)
        hessian[0, :p, p] = hessian[0, p, :p] = found.weight * step
        hessian[0, p, p] = found.weight
        cross = found.cross.T + found.weight * np.outer(target_step, step)
        square = found.target_square + found.weight * target_step**2
        return cls(hessian, np.column_stack([cross, found.weight * target_step]), 0.5 * square)

    @classmethod
    def about(
        cls, point: np.ndarray, value: np.ndarray, slope: np.ndarray, hessian: np.ndarray
    ) -> Parabola:
        """Return the parabola with given derivatives at a point."""
        bent = _times(hessian, point)
        constant = value - np.einsum("ci,ci->c", slope - 0.5 * bent, point)
        return cls(hessian, bent - slope, constant)

    def __add__(self, other: Parabola) -> Parabola:
        return Parabola(
            self.hessian + other.hessian,
            self.linear + other.linear,
            self.constant + other.constant,
        )

    def value(self, point: np.ndarray) -> np.ndarray:
        """Return the values at a point of shape (n_outputs, n_features + 1)."""
        bent = _times(self.hessian, point)
        found: np.ndarray = np.einsum("ci,ci->c", 0.5 * bent - self.linear, point) + self.constant
        return found


def _times(hessian: np.ndarray, point: np.ndarray) -> np.ndarray:
    # A single Hessian is that of all outputs.
    return np.array([hessian[min(c, len(hessian) - 1)] @ row for c, row in enumerate(point)])


@dataclass(frozen=True)
class Seen:
    """What is kept of the rows seen.

    Attributes
    ----------
    weight : float
        Sum of their weights.
    n_rows : int
        Number of visits of rows of positive weight.
    parabola : Parabola
        Sum of the rows' losses, relative to the means.
    root : ndarray of shape (n_outputs,)
        Sums of the roots of the residuals' sizes; zero with squared error.
    mean, target_mean : ndarray of shape (n_features,), (n_outputs,)
        Means of the first call.
    target_spread : ndarray of shape (n_outputs,)
        Spread of the targets in the first call.
    loss : Loss
        The loss.
    centred : bool
        Whether an intercept was free; means are zero otherwise.
    """

    weight: float
    n_rows: int
    parabola: Parabola
    root: np.ndarray
    mean: np.ndarray
    target_mean: np.ndarray
    target_spread: np.ndarray
    loss: Loss
    centred: bool

    @classmethod
    def nothing(cls, found: Statistics, loss: Loss, *, centred: bool) -> Seen:
        """Return what is kept of no rows, in the coordinates of the first ones."""
        n_outputs, p = len(found.target_mean), len(found.mean)
        square = found.target_square / found.weight
        n_parabolas = 1 if loss.quadratic else n_outputs
        return cls(
            weight=0.0,
            n_rows=0,
            parabola=Parabola(
                np.zeros((n_parabolas, p + 1, p + 1)),
                np.zeros((n_outputs, p + 1)),
                np.zeros(n_outputs),
            ),
            root=np.zeros(n_outputs),
            mean=found.mean * float(centred),
            target_mean=found.target_mean * float(centred),
            target_spread=np.sqrt(square if centred else square + found.target_mean**2),
            loss=loss,
            centred=centred,
        )

    def and_more(
        self, weight: float, n_rows: int, parabola: Parabola, root: np.ndarray | float = 0.0
    ) -> Seen:
        """Return what is kept when more rows have been seen."""
        return replace(
            self,
            weight=self.weight + weight,
            n_rows=self.n_rows + n_rows,
            parabola=self.parabola + parabola,
            root=self.root + root,
        )


@dataclass(frozen=True)
class Memory:
    """What `partial_fit` goes on from, besides the model; arrays only.

    Attributes
    ----------
    weight : float
        Sum of the weights of the rows seen, by `fit` or by calls of `partial_fit`.
    seen : Seen or None
        Parabolas of the rows seen, where calls are made of these.
    survey : Survey or None
        What is known of the columns, where step lengths depend on it.
    iterate : tuple or None
        The iterate behind an averaged model: coefficients, intercepts and the number of rows in
        the average.
    strange_calls, strange_rows : int
        Calls in succession, and their rows, that were unlike those before.
    """

    weight: float = 0.0
    seen: Seen | None = None
    survey: Survey | None = None
    iterate: tuple[np.ndarray, np.ndarray, int] | None = None
    strange_calls: int = 0
    strange_rows: int = 0

    @property
    def strange(self) -> bool:
        """Whether it is time to tell that the rows have changed."""
        return self.strange_rows >= STRANGE_ROWS and self.strange_calls >= STRANGE_CALLS
