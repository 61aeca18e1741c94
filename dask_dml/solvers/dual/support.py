"""Dual variables and support vectors of a fitted support vector machine.

They are functions of the margins: ``alpha_i = C_i phi'(1 - y_i f_i)``, scaled to be feasible.
So a fit keeps nothing of the size of the data; to get them, the data is passed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dask_dml.blocks import Block, Shard
from dask_dml.passes.predict import LinearModel, linear_values

_TILE_ROWS = 4096


@dataclass(frozen=True)
class Duals:
    """What makes dual variables of rows.

    Attributes
    ----------
    coef : ndarray of shape (n_problems, n_features)
        Coefficients.
    intercept : ndarray of shape (n_problems,)
        Intercepts.
    label : ndarray of shape (n_problems,)
        The class that is y = +1, as the labels handed over with the rows name it.
    cost : ndarray of shape (n_problems, 2)
        Cost of a violation with y = -1 and +1.
    scale : ndarray of shape (n_problems, 2)
        Factors that make the dual variables feasible.
    parameters : ndarray of shape (n_problems, 4)
        Loss parameters, see `dask_dml.kernels.margin_rows`.
    """

    coef: np.ndarray
    intercept: np.ndarray
    label: np.ndarray
    cost: np.ndarray
    scale: np.ndarray
    parameters: np.ndarray

    @property
    def width(self) -> np.ndarray:
        """Widths of the rounded kink, shape (n_problems,)."""
        # Fitted models hold such records, and are read where Numba is not installed.
        from dask_dml.kernels.margin_rows import WIDTH

        return self.parameters[:, WIDTH]

    def take(self, problems: Sequence[int]) -> Duals:
        """Return those of some problems."""
        chosen = np.asarray(problems, np.intp)
        return Duals(**{name: values[chosen] for name, values in vars(self).items()})

    def of(self, X: Any, y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
        """Return the signed dual variables of some rows.

        Parameters
        ----------
        X : ndarray or csr_array of shape (n_rows, n_features)
            Rows.
        y : ndarray of shape (n_rows,)
            Their labels.
        weight : ndarray of shape (n_rows,) or None
            Their weights.

        Returns
        -------
        duals : ndarray of shape (n_rows, n_problems)
            ``y_i alpha_i``.
        """
        if X.dtype != np.float64:
            X = X.astype(np.float64)
        f = linear_values(X, LinearModel(self.coef, self.intercept))
        positive = y[:, None] == self.label
        sign = np.where(positive, 1.0, -1.0)
        factor = np.where(positive, (self.scale * self.cost)[:, 1], (self.scale * self.cost)[:, 0])
        shift, width, slope = self.parameters[:, :3].T
        # A window of no width has a slope that a large factor would take beyond all numbers.
        alpha = factor * (slope * np.clip(1.0 - sign * f + shift, 0.0, width))
        return sign * alpha if weight is None else sign * alpha * weight[:, None]

    def tiles(self, block: Block) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield labels and dual variables of a block, some thousand rows at a time."""
        for start in range(0, block.n_rows, _TILE_ROWS):
            rows = slice(start, start + _TILE_ROWS)
            weight = None if block.weight is None else block.weight[rows]
            y = block.y[rows, 0]
            yield y, self.of(block.X[rows], y, weight)


def count_support(shard: Shard, broadcast: tuple[Duals, np.ndarray]) -> np.ndarray:
    """Return how many rows of each class are support vectors of some problem."""
    duals, classes = broadcast
    counts = np.zeros(len(classes))
    for block in shard.blocks:
        for y, values in duals.tiles(block):
            chosen = y[np.any(values != 0.0, axis=1)]
            counts += np.bincount(np.searchsorted(classes, chosen), minlength=len(classes))
    return counts
