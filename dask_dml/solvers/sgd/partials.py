"""Partial results of stochastic gradient descent, with ``+``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dask_dml.passes.partials import Moments


@dataclass(frozen=True)
class Survey(Moments):
    """What step lengths and the first gradient need to know of the columns.

    Attributes
    ----------
    cross : ndarray of shape (n_outputs, n_features)
        ``sum_i s_i (y_i - target_mean)(x_i - mean)'``.
    stored : ndarray of shape (n_features,)
        Rows that have an entry in the column; all rows where X is dense.
    own_square, fourth : ndarray of shape (n_features,)
        Sums of weighted squares and fourth powers about a point near the mean of each block.
    any_sparse : bool
        Whether some block is CSR.
    """

    cross: np.ndarray
    stored: np.ndarray
    own_square: np.ndarray
    fourth: np.ndarray
    any_sparse: bool

    def take(self, columns: np.ndarray) -> Survey:
        """Return the survey of some columns of X."""
        return replace(
            self,
            mean=self.mean[columns],
            square=self.square[columns],
            cross=self.cross[:, columns],
            stored=self.stored[columns],
            own_square=self.own_square[columns],
            fourth=self.fourth[columns],
        )

    def __add__(self, other: Survey) -> Survey:  # type: ignore[override]  # own kind only
        merged = Moments.__add__(self, other)
        cross = self.cross + other.cross
        if self.weight > 0.0 and other.weight > 0.0:
            between = self.weight * other.weight / merged.weight
            step = other.target_mean - self.target_mean
            cross = cross + between * np.outer(step, other.mean - self.mean)
        return Survey(
            weight=merged.weight,
            n_rows=merged.n_rows,
            mean=merged.mean,
            square=merged.square,
            target_mean=merged.target_mean,
            target_square=merged.target_square,
            cross=cross,
            stored=self.stored + other.stored,
            own_square=self.own_square + other.own_square,
            fourth=self.fourth + other.fourth,
            any_sparse=self.any_sparse or other.any_sparse,
        )


@dataclass(frozen=True)
class Models:
    """What the nodes' local steps changed, added up.

    Attributes
    ----------
    last, mean : ndarray of shape (n_problems, n_features + 1)
        Weighted sums of the changes to the last iterate, and to the average of the last ones;
        without columns where they were not wanted.
    weights : ndarray of shape (n_features + 1,), (1,) or (0,)
        Sums of the weights, coordinate by coordinate where these differ; nothing where they were
        not wanted.
    weight : float
        Sum of the nodes' weights.
    support : ndarray of shape (n_problems, n_features + 1) or (n_problems, 0)
        Weights of the nodes whose last iterate is not zero there.
    loss : ndarray of shape (n_problems,)
        Weighted sums of the mean losses on the way.
    each : tuple of (weight, ndarray of shape (n_problems, n_features + 1))
        The nodes' changes one by one, if asked for.
    n_nodes : int
        Number of nodes that took steps.
    cut : bool
        Whether some node ran out of time before it had visited its rows.
    """

    last: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    weight: float
    support: np.ndarray
    loss: np.ndarray
    each: tuple[tuple[float, np.ndarray], ...]
    n_nodes: int
    cut: bool = False

    @classmethod
    def none(cls, shape: tuple[int, int], wants: Any) -> Models:
        """Return the result of a node without rows (or without weight): it has no say."""
        zeros, nothing = np.zeros(shape), np.empty((shape[0], 0))
        return cls(
            zeros if wants.last else nothing,
            zeros if wants.mean else nothing,
            np.zeros(1 if wants.weights else 0),
            0.0,
            zeros if wants.zeros else nothing,
            np.zeros(shape[0]),
            (),
            0,
        )

    def __add__(self, other: Models) -> Models:
        return Models(
            self.last + other.last,
            self.mean + other.mean,
            self.weights + other.weights,
            self.weight + other.weight,
            self.support + other.support,
            self.loss + other.loss,
            self.each + other.each,
            self.n_nodes + other.n_nodes,
            self.cut or other.cut,
        )

    def average(self, sums: np.ndarray) -> np.ndarray:
        """Return ``last`` or ``mean`` divided by the weights."""
        weights = np.broadcast_to(self.weights, sums.shape[-1:])
        return np.divide(sums, weights, out=np.zeros(sums.shape), where=weights > 0.0)

    @property
    def zeros(self) -> np.ndarray:
        """Which coordinates are zero for most of the nodes, by weight."""
        return self.support < 0.5 * self.weight
