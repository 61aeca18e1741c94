"""Partial results of a pass: what a shard returns, and what adding two of them means.

Every class has ``+``.  For loss sums it is a plain sum; moments are merged about their own means
(Chan, Golub and LeVeque, 1983), triangular factors by another factorisation (TSQR; Demmel,
Grigori, Hoemmen and Langou, 2012), so that neither an offset nor a bad condition costs digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Why sparse columns are not centred, and what to do instead.
CENTRE_SPARSE = (
    "Cannot center sparse matrices: pass `with_mean=False` instead. A column less its mean has no "
    "zeros, so that all of X would be filled in."
)


@dataclass(frozen=True)
class LossSums:
    """Loss sums and derivatives of several problems at one point each.

    Attributes
    ----------
    gradient : ndarray of shape (n_problems, n_features)
        ``sum_i s_i phi'(r_i) (x_i - mean)``.
    sums : ndarray of shape (n_problems, 9)
        The columns are named in `dask_dml.kernels.rows`.
    hessian : ndarray of shape (n_problems, n_features + 1, n_features + 1) or None
        Lower triangles of ``sum_i s_i phi''(r_i) (x_i - mean, 1) (x_i - mean, 1)'``.
    """

    gradient: np.ndarray
    sums: np.ndarray
    hessian: np.ndarray | None

    def __add__(self, other: LossSums) -> LossSums:
        hessian = None
        if self.hessian is not None and other.hessian is not None:
            hessian = self.hessian + other.hessian
        return LossSums(self.gradient + other.gradient, self.sums + other.sums, hessian)


@dataclass(frozen=True)
class Moments:
    """Weighted means and centred sums of squares of the columns and the targets.

    Attributes
    ----------
    weight : float
        Sum of the sample weights.
    n_rows : int
        Number of rows.
    mean, square : ndarray of shape (n_features,)
        Means, and sums of weighted squares about them.
    target_mean, target_square : ndarray of shape (n_outputs,)
        The same of the targets.
    """

    weight: float
    n_rows: int
    mean: np.ndarray
    square: np.ndarray
    target_mean: np.ndarray
    target_square: np.ndarray

    def take(self, columns: np.ndarray) -> Moments:
        """Return the moments of some columns of X."""
        return Moments(
            self.weight,
            self.n_rows,
            self.mean[columns],
            self.square[columns],
            self.target_mean,
            self.target_square,
        )

    def __add__(self, other: Moments) -> Moments:
        if self.weight == 0.0 or other.weight == 0.0:
            kept = other if self.weight == 0.0 else self
            return _with_rows(kept, self.n_rows + other.n_rows)
        weight = self.weight + other.weight
        share = other.weight / weight
        between = self.weight * share
        step = other.mean - self.mean
        target_step = other.target_mean - self.target_mean
        return Moments(
            weight,
            self.n_rows + other.n_rows,
            self.mean + share * step,
            self.square + other.square + between * step**2,
            self.target_mean + share * target_step,
            self.target_square + other.target_square + between * target_step**2,
        )


@dataclass(frozen=True)
class ColumnMoments:
    """Weighted means and centred sums of squares of columns in which values may be missing.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    weight : ndarray of shape (n_features,)
        Sums of the sample weights over the rows where the column has a value.
    origin : ndarray of shape (n_features,)
        A value near the others of the column.
    mean : ndarray of shape (n_features,)
        Mean less ``origin``: a mean of 1e9 alone could not say by how much a tenth-of-a-unit
        spread is off it.
    square : ndarray of shape (n_features,)
        Sums of weighted squares about the mean.
    """

    n_rows: int
    weight: np.ndarray
    origin: np.ndarray
    mean: np.ndarray
    square: np.ndarray

    def __add__(self, other: ColumnMoments) -> ColumnMoments:
        weight = self.weight + other.weight
        share = np.divide(other.weight, weight, out=np.zeros_like(weight), where=weight > 0.0)
        empty = self.weight == 0.0
        origin = np.where(empty, other.origin, self.origin)
        mean = np.where(empty, other.mean, self.mean)
        with np.errstate(over="ignore", invalid="ignore"):  # reported when all is added up
            step = (other.origin - origin) + (other.mean - mean)
            step = np.where(share > 0.0, step, 0.0)
            between = self.weight * share * step**2
            return ColumnMoments(
                self.n_rows + other.n_rows,
                weight,
                origin,
                mean + share * step,
                self.square + other.square + between,
            )


@dataclass(frozen=True)
class Statistics(Moments):
    """Sufficient statistics of squared error: all second moments about the means.

    Attributes
    ----------
    products : ndarray of shape (n_features, n_features)
        ``sum_i s_i (x_i - mean) (x_i - mean)'``; the lower triangle counts.
    cross : ndarray of shape (n_features, n_outputs)
        ``sum_i s_i (x_i - mean) (y_i - target_mean)'``.
    rough : bool
        Whether the products have the digits of single precision only.
    """

    products: np.ndarray
    cross: np.ndarray
    rough: bool = False

    def __add__(self, other: Statistics) -> Statistics:  # type: ignore[override]  # own kind only
        merged = Moments.__add__(self, other)
        if self.weight == 0.0 or other.weight == 0.0:
            return merged  # type: ignore[return-value]  # one of the two
        between = self.weight * other.weight / merged.weight
        step = other.mean - self.mean
        target_step = other.target_mean - self.target_mean
        products = self.products + other.products
        products += between * np.outer(step, step)
        return Statistics(
            **vars(merged),
            products=products,
            cross=self.cross + other.cross + between * np.outer(step, target_step),
            rough=self.rough or other.rough,
        )


@dataclass(frozen=True)
class Triangle:
    """The triangular factor R of a QR factorisation of weighted, centred rows ``[X, y]``."""

    factor: np.ndarray

    def __add__(self, other: Triangle) -> Triangle:
        return Triangle(triangular(np.concatenate([self.factor, other.factor])))


def triangular(rows: np.ndarray) -> np.ndarray:
    """Return R of the QR factorisation of ``rows``; short stacks are returned as they are."""
    if rows.shape[0] <= rows.shape[1]:
        return rows
    return np.asarray(np.linalg.qr(rows, mode="r"))


@dataclass(frozen=True)
class Rows:
    """Few rows, written out; ``+`` puts them one after the other.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        The columns that are asked for.
    y : ndarray of shape (n_rows, n_outputs)
        Targets.
    weight : ndarray of shape (n_rows,)
        Weights.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def __add__(self, other: Rows) -> Rows:
        parts = ((self.X, other.X), (self.y, other.y), (self.weight, other.weight))
        return Rows(*(np.concatenate(pair) for pair in parts))


def _with_rows(moments: Moments, n_rows: int) -> Moments:
    return type(moments)(**{**vars(moments), "n_rows": n_rows})
