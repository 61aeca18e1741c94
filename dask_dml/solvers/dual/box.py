"""The dual of a support vector machine over a few of its rows.

    max_a  q'a - ||v + Z'a||**2 / 2 - a'Sa / 2   where  0 <= a <= c

``S`` is zero for the hinge, and for the squared hinge the diagonal of ``1 / (2 C_i)``.  A row of
``Z`` is a row of the table times its label; the last may be a direction in which many other
variables move together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Matrix
from dask_dml.kernels.margin_csr import add_hessian


@dataclass(frozen=True)
class Box:
    """A problem as above.

    Attributes
    ----------
    X : ndarray or csr_array of shape (n_rows, n_features)
        Rows of the table; the indices of a row are sorted.
    sign : ndarray of shape (n_rows,)
        Their labels, -1 and 1.
    bias : float
        Value of the intercept's column.
    upper : ndarray of shape (n_rows,)
        c; of the squared hinge, C.
    start : ndarray of shape (n_rows,)
        A feasible point.
    fixed : ndarray of shape (n_features + 1,)
        v; the coefficient of the intercept's column is last.
    along : ndarray of shape (n_features + 1,)
        A direction in which v may move as well, by a share of it between zero and one.
    rise : float
        What the objective's linear part gains by the whole of it.
    squared : bool, default=False
        Squared hinge.
    most : float, default=inf
        An objective of the primal problem that is known to be reached.
    near : float, default=0.0
        An intercept that is about right.
    whole : bool, default=False
        Whether these are all rows, so that no other round can help.
    """

    X: Matrix
    sign: np.ndarray
    bias: float
    upper: np.ndarray
    start: np.ndarray
    fixed: np.ndarray
    along: np.ndarray
    rise: float
    squared: bool = False
    most: float = np.inf
    near: float = 0.0
    whole: bool = False

    @property
    def soft(self) -> np.ndarray:
        """S, a diagonal."""
        return 0.5 / self.upper if self.squared else np.zeros(len(self.upper))

    @property
    def bounds(self) -> np.ndarray:
        """Upper bounds; those of the squared hinge are no constraint.

        At the optimum ``C_i t_i**2`` is at most any objective, such as the sum of all C.
        """
        if not self.squared:
            return self.upper
        return 4.0 * np.sqrt(self.upper * min(self.upper.sum(), self.most))

    def losses(self, t: np.ndarray) -> np.ndarray:
        """Return the losses of positive violations."""
        return self.upper * (t**2 if self.squared else t)

    @property
    def by_rows(self) -> bool:
        """Whether matrices are made of the rows' products: these are fewer than the columns."""
        return len(self.upper) < self.X.shape[1]

    @property
    def size(self) -> int:
        """Rows and columns of such a matrix."""
        return min(len(self.upper), self.X.shape[1])

    def effect(self, a: np.ndarray) -> np.ndarray:
        """Return ``Z'a``."""
        signed = self.sign * a
        moved: np.ndarray = self.X.T @ signed
        return np.append(moved, self.bias * signed.sum())

    def values(self, u: np.ndarray) -> np.ndarray:
        """Return ``Z u``."""
        values: np.ndarray = self.sign * (self.X @ u[:-1] + self.bias * u[-1])
        return values

    def gram(self, weights: np.ndarray) -> np.ndarray:
        """Return the lower triangle of ``Z' diag(weights) Z``; what is above it is undefined."""
        X, p = self.X, self.X.shape[1]
        if is_sparse(X):
            total = np.zeros((p + 2, p + 2))
            arguments = (self.sign[:, None], 0, weights, 1.0, 1, np.arange(p), total)
            add_hessian(X.data, X.indices, X.indptr, *arguments)
            total = total[: p + 1, : p + 1].copy()
        else:
            total = np.empty((p + 1, p + 1))
            weighted = weights[:, None] * X
            np.matmul(X.T, weighted, out=total[:p, :p])
            total[p, :p] = weighted.sum(axis=0)
            total[p, p] = weights.sum()
        total[p] *= self.bias
        total[p, p] *= self.bias
        return total


@dataclass(frozen=True)
class Maximum:
    """Where the maximum of a `Box` is.

    Attributes
    ----------
    a : ndarray of shape (n_rows,)
        Variables.
    share : float
        How much of the direction to go.
    point : ndarray of shape (n_features + 1,)
        Coefficients of the primal problem, the coefficient of the intercept's column last.  At
        the maximum they are ``v + Z'a``; where large terms cancel in that sum, these have more
        digits.
    """

    a: np.ndarray
    share: float
    point: np.ndarray


def norms(box: Box) -> np.ndarray:
    """Return the squared norms of the rows of ``Z``."""
    squares = box.X.multiply(box.X) if is_sparse(box.X) else box.X**2
    found: np.ndarray = np.asarray(squares.sum(axis=1)).ravel() + box.bias**2
    return found


def is_sparse(X: Matrix) -> bool:
    """Return whether a table is CSR."""
    return bool(sp.issparse(X))


def square(u: np.ndarray) -> float:
    """Return the squared length of a vector."""
    return float(u @ u)
