"""What scores need to know of the rows held out, for many linear models in one visit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dask_dml.blocks import Block, Shard, slice_rows
from dask_dml.passes.predict import LinearModel, checked_values

#: Predictions that are held at a time.
TILE_VALUES = 1 << 20


class Models(NamedTuple):
    """Models whose predictions are to be scored.

    Attributes
    ----------
    coef : ndarray of shape (n_models * n_outputs, n_features)
        Coefficients, model by model.
    intercept : ndarray of shape (n_models * n_outputs,)
        Intercepts.
    n_outputs : int
        Outputs, or classes that are told apart, of each model.
    weighted : bool
        Whether the rows' weights count.
    classes : ndarray or None
        All classes as the blocks hold them, where labels are predicted.
    known : ndarray of int or None
        Position among them of each class that the models know.
    """

    coef: np.ndarray
    intercept: np.ndarray
    n_outputs: int
    weighted: bool
    classes: np.ndarray | None = None
    known: np.ndarray | None = None


@dataclass(frozen=True)
class ResidualSums:
    """Sums of residuals; ``+`` merges moments as Chan, Golub and LeVeque (1983) do.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    weight : float
        Sum of their weights.
    mean, spread : ndarray of shape (n_outputs,)
        Mean of the targets, and sum of squares about it.
    bias, square : ndarray of shape (n_models, n_outputs)
        Mean residuals, and sums of squares about them.
    absolute, largest : ndarray of shape (n_models, n_outputs)
        Sums, and largest, of absolute residuals.
    """

    n_rows: int
    weight: float
    mean: np.ndarray
    spread: np.ndarray
    bias: np.ndarray
    square: np.ndarray
    absolute: np.ndarray
    largest: np.ndarray

    def __add__(self, other: ResidualSums) -> ResidualSums:
        weight = self.weight + other.weight
        share = other.weight / weight if weight > 0.0 else 0.0
        step, shift = other.mean - self.mean, other.bias - self.bias
        return ResidualSums(
            self.n_rows + other.n_rows,
            weight,
            self.mean + share * step,
            self.spread + other.spread + self.weight * share * step**2,
            self.bias + share * shift,
            self.square + other.square + self.weight * share * shift**2,
            self.absolute + other.absolute,
            np.maximum(self.largest, other.largest),
        )


@dataclass(frozen=True)
class ClassCounts:
    """How often, or with what weight, classes are predicted.

    Attributes
    ----------
    counts : ndarray of shape (n_models, n_classes, n_classes)
        By true and by predicted class.
    """

    counts: np.ndarray

    def __add__(self, other: ClassCounts) -> ClassCounts:
        return ClassCounts(self.counts + other.counts)


@dataclass(frozen=True)
class Gathered:
    """Predictions themselves, for scores that are no function of sums.

    Attributes
    ----------
    y : tuple of ndarray of shape (n_rows, n_targets)
        Targets as the blocks hold them.
    weight : tuple of ndarray of shape (n_rows,)
        Weights.
    values : tuple of ndarray of shape (n_rows, n_models * n_outputs)
        Predictions, or decisions.
    """

    y: tuple[np.ndarray, ...]
    weight: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]

    def __add__(self, other: Gathered) -> Gathered:
        return Gathered(self.y + other.y, self.weight + other.weight, self.values + other.values)


def residual_sums(shard: Shard, models: Models) -> ResidualSums | None:
    """Return the sums of the residuals of several regressors; None of no rows."""
    total: ResidualSums | None = None
    for block, values in _predicted(shard, models):
        weight = _weights(block, models)
        y = block.y.astype(np.float64, copy=False)
        residual = y[:, None, :] - values.reshape(block.n_rows, -1, models.n_outputs)
        sums = _residual_sums(y, residual, weight)
        total = sums if total is None else total + sums
    return total


def _residual_sums(y: np.ndarray, residual: np.ndarray, weight: np.ndarray) -> ResidualSums:
    rows, whole = len(y), float(weight.sum())
    flat = residual.reshape(rows, -1)
    share = weight / whole if whole > 0.0 else weight
    # Differences from a value of the column: a constant target has no spread by rounding.
    mean = y[0] + share @ (y - y[0])
    bias = share @ flat
    largest = np.abs(flat)
    absolute = weight @ largest
    shape = residual.shape[1:]
    return ResidualSums(
        rows,
        whole,
        mean,
        weight @ (y - mean) ** 2,
        bias.reshape(shape),
        (weight @ (flat - bias) ** 2).reshape(shape),
        absolute.reshape(shape),
        largest.max(axis=0).reshape(shape),
    )


def class_counts(shard: Shard, models: Models) -> ClassCounts | None:
    """Return how often several classifiers predict which class; None of no rows."""
    assert models.classes is not None
    assert models.known is not None
    n_classes = len(models.classes)
    total: ClassCounts | None = None
    for block, values in _predicted(shard, models):
        weight = _weights(block, models)
        true = np.searchsorted(models.classes, block.y[:, 0])
        decisions = values.reshape(block.n_rows, -1, models.n_outputs)
        if models.n_outputs == 1:
            chosen = (decisions[:, :, 0] > 0.0).astype(np.intp)
        else:
            chosen = decisions.argmax(axis=2)
        pairs = true[:, None] * n_classes + models.known[chosen]
        counts = [
            np.bincount(column, weight, n_classes**2).reshape(n_classes, n_classes)
            for column in pairs.T
        ]
        found = ClassCounts(np.array(counts))
        total = found if total is None else total + found
    return total


def gathered(shard: Shard, models: Models) -> Gathered | None:
    """Return the predictions of several models; None of no rows."""
    total: Gathered | None = None
    for block, values in _predicted(shard, models):
        found = Gathered((np.array(block.y),), (_weights(block, models),), (values,))
        total = found if total is None else total + found
    return total


def _predicted(shard: Shard, models: Models) -> Iterator[tuple[Block, np.ndarray]]:
    """Yield some rows at a time, with the predictions of all models."""
    model = LinearModel(models.coef, models.intercept)
    step = max(TILE_VALUES // len(models.coef), 256)
    for block in shard.blocks:
        for start in range(0, block.n_rows, step):
            rows = slice_rows(block, start, min(start + step, block.n_rows))
            yield rows, checked_values(rows, model).astype(np.float64, copy=False)


def _weights(block: Block, models: Models) -> np.ndarray:
    if block.weight is None or not models.weighted:
        return np.ones(block.n_rows)
    return block.weight
