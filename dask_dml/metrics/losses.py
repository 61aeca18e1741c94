"""Losses of classifiers from one pass over the chunks.

Which column of scores belongs to a label is known only when all labels are: so the losses of a row
are added up for every column, label by label, and the right ones are picked in the end.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics

from dask_dml.metrics.rows import any_dask, visit_rows


@dataclass(frozen=True)
class LabelSums:
    """Sums over the rows of each label.

    Attributes
    ----------
    sums : dict of label to ndarray of shape (1 + n_columns,)
        Of the weights, and of the weighted losses that rows would have if each column were theirs.
    dimensions : tuple of int
        Number of dimensions of the scores, as given.
    """

    sums: dict[Any, np.ndarray]
    dimensions: frozenset[int]

    def __add__(self, other: LabelSums) -> LabelSums:
        merged = dict(self.sums)
        for label, more in other.sums.items():
            merged[label] = merged[label] + more if label in merged else more
        return LabelSums(merged, self.dimensions | other.dimensions)


def log_loss(
    y_true: Any,
    y_proba: Any,
    *,
    normalize: bool = True,
    sample_weight: Any = None,
    labels: Any = None,
) -> float:
    """Return the cross-entropy of probabilities, as `sklearn.metrics.log_loss`.

    Parameters
    ----------
    y_true : array-like or Dask collection of shape (n_samples,)
        True labels.
    y_proba : array-like or Dask collection of shape (n_samples, n_classes) or (n_samples,)
        Probabilities of the sorted labels, or of the second of two labels.
    normalize : bool, default=True
        Whether to return the mean.  If False, the sum.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.
    labels : array-like, default=None
        The labels.  None takes those that occur in `y_true`.

    Returns
    -------
    loss : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Raises
    ------
    ValueError
        If labels and columns do not match, or values are not probabilities.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import log_loss
    >>> log_loss(da.from_array([0, 1, 1, 0]), da.from_array([0.1, 0.9, 0.8, 0.35]))
    0.22
    """
    if not any_dask(y_true, y_proba, sample_weight):
        return float(
            metrics.log_loss(
                y_true, y_proba, normalize=normalize, sample_weight=sample_weight, labels=labels
            )
        )
    found = visit_rows(_sums, _entropies, y_true, y_proba, sample_weight)
    known, sums = _sorted(found, labels, "y_proba")
    if len(known) < 2:
        raise ValueError(
            f"y_true contains only one label ({known[0]!r}). Please provide the true labels "
            "explicitly through the labels argument."
        )
    return _total(sums, normalize)


def hinge_loss(
    y_true: Any, pred_decision: Any, *, labels: Any = None, sample_weight: Any = None
) -> float:
    """Return the mean hinge loss of decision values, as `sklearn.metrics.hinge_loss`.

    Parameters
    ----------
    y_true : array-like or Dask collection of shape (n_samples,)
        True labels.
    pred_decision : array-like or Dask collection of shape (n_samples,) or (n_samples, n_classes)
        Values of ``decision_function``.  Positive means the second of two labels.
    labels : array-like, default=None
        The labels.  None takes those that occur in `y_true`.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    loss : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Raises
    ------
    ValueError
        If labels and columns do not match.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import hinge_loss
    >>> hinge_loss(da.from_array([-1, 1, 1]), da.from_array([-2.2, 2.1, 0.1]))
    0.3
    """
    if not any_dask(y_true, pred_decision, sample_weight):
        return float(
            metrics.hinge_loss(y_true, pred_decision, labels=labels, sample_weight=sample_weight)
        )
    found = visit_rows(_sums, _hinges, y_true, pred_decision, sample_weight)
    _, sums = _sorted(found, labels, "pred_decision")
    return _total(sums, True)


def _sums(
    y_true: np.ndarray,
    scores: np.ndarray,
    weight: np.ndarray | None,
    losses: Callable[[np.ndarray], np.ndarray],
) -> LabelSums:
    if not len(y_true):
        return LabelSums({}, frozenset())
    per_column = losses(np.asarray(scores, np.result_type(scores, np.float32)))
    weights = np.ones(len(y_true)) if weight is None else weight
    rows = np.column_stack([np.ones(len(y_true)), per_column]) * weights[:, np.newaxis]
    labels, places = np.unique(y_true, return_inverse=True)
    sums = {
        label: rows[places == number].sum(axis=0) for number, label in enumerate(labels.tolist())
    }
    return LabelSums(sums, frozenset([scores.ndim]))


def _entropies(proba: np.ndarray) -> np.ndarray:
    if proba.min() < 0.0 or proba.max() > 1.0:
        raise ValueError(
            "y_proba contains values outside of [0, 1]. Hand over probabilities, not decisions."
        )
    if proba.ndim == 1:
        proba = np.column_stack([1.0 - proba, proba])
    eps = np.finfo(proba.dtype).eps
    if not np.allclose(proba.sum(axis=1), 1.0, rtol=np.sqrt(eps)):
        warnings.warn(
            "The y_proba values do not sum to one. Make sure to pass probabilities.",
            UserWarning,
            stacklevel=2,
        )
    return -np.log(np.clip(proba, eps, 1.0 - eps))


def _hinges(decision: np.ndarray) -> np.ndarray:
    if decision.ndim == 1:
        margins = np.column_stack([-decision, decision])
    else:
        order = np.argsort(decision, axis=1)
        rows = np.arange(len(decision))
        best, second = (decision[rows, order[:, -n]][:, np.newaxis] for n in (1, 2))
        margins = decision - np.where(decision == best, second, best)
    return np.maximum(1.0 - margins, 0.0)


def _sorted(found: LabelSums, labels: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels, and for each of them the weight and the loss of its rows."""
    if not found.sums:
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
    known = np.unique(list(found.sums) if labels is None else labels)
    n_columns = len(next(iter(found.sums.values()))) - 1
    unknown = set(found.sums) - set(known.tolist())
    if unknown:
        raise ValueError(f"y_true contains values {unknown} not belonging to the passed labels.")
    if len(known) > n_columns or (len(known) < n_columns and max(found.dimensions) == 2):
        raise ValueError(
            f"{name} has {n_columns} columns, but there are {len(known)} labels: {known.tolist()}. "
            "Please include all labels in y_true or pass them as labels."
        )
    places = {label: place for place, label in enumerate(known.tolist())}
    return known, np.array([sums[[0, 1 + places[label]]] for label, sums in found.sums.items()])


def _total(sums: np.ndarray, normalize: bool) -> float:
    weight, loss = sums.sum(axis=0)
    return float(loss / weight) if normalize else float(loss)
