"""Metrics of classification from one pass over the chunks.

Of labels and predictions a metric needs to know how often, or with what weight, each pair of them
occurs; of labels and scores likewise.  So scikit-learn's own function is called with the different
pairs, weighted by that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn import metrics

from dask_dml.metrics.rows import any_dask, visit_rows


@dataclass(frozen=True)
class Pairs:
    """Different rows of targets and predictions, and how often or with what weight they occur.

    Attributes
    ----------
    frame : pandas.DataFrame or None
        The columns of the targets, those of the predictions, and "weight"; None of no rows.
    n_targets : int
        Number of columns of the targets.
    """

    frame: Any
    n_targets: int

    @classmethod
    def of(
        cls,
        y_true: np.ndarray,
        y_pred: np.ndarray,
        weight: np.ndarray | None,
        options: Any,  # noqa: ARG003 - what is visited has it
    ) -> Pairs:
        """Return the pairs of some rows."""
        import pandas as pd

        if not len(y_true):
            return cls(None, 0)
        columns = [*_columns(y_true), *_columns(y_pred)]
        frame = pd.DataFrame(dict(enumerate(columns)))
        frame["weight"] = np.ones(len(y_true), np.int64) if weight is None else weight
        return cls(_added_up(frame), y_true.ndim if y_true.ndim == 1 else y_true.shape[1])

    def __add__(self, other: Pairs) -> Pairs:
        import pandas as pd

        if self.frame is None or other.frame is None:
            return other if self.frame is None else self
        both = pd.concat([self.frame, other.frame], ignore_index=True)
        return Pairs(_added_up(both), self.n_targets)

    def arguments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return targets, predictions and weights, as scikit-learn takes them."""
        names = [name for name in self.frame.columns if name != "weight"]
        parts = (names[: self.n_targets], names[self.n_targets :])
        y_true, y_pred = (
            self.frame[part[0] if len(part) == 1 else part].to_numpy() for part in parts
        )
        return y_true, y_pred, self.frame["weight"].to_numpy()


def _columns(y: np.ndarray) -> Sequence[np.ndarray]:
    return [y] if y.ndim == 1 else list(y.T)


def _added_up(frame: Any) -> Any:
    names = [name for name in frame.columns if name != "weight"]
    return frame.groupby(names, sort=False, dropna=False, as_index=False)["weight"].sum()


def _from_pairs(
    metric: Callable[..., Any],
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
    *,
    weighted: bool = True,
    **options: Any,
) -> Any:
    if any_dask(y_true, y_pred, sample_weight):
        found = visit_rows(Pairs.of, None, y_true, y_pred, sample_weight)
        if found.frame is None:
            return metric([], [], **options)  # says what is wrong
        y_true, y_pred, counts = found.arguments()
        if weighted or sample_weight is not None:
            sample_weight = counts
        else:
            # The metric takes no weights: rows stand there as often as they occur.
            y_true, y_pred = (np.repeat(y, counts, axis=0) for y in (y_true, y_pred))
    result = metric(y_true, y_pred, sample_weight=sample_weight, **options)
    # Older releases of scikit-learn return NumPy's numbers here and there.
    return float(result) if isinstance(result, np.floating) else result


def accuracy_score(
    y_true: Any,
    y_pred: Any,
    *,
    normalize: bool = True,
    sample_weight: Any = None,
) -> Any:
    """Return the share of rows predicted correctly, as `sklearn.metrics.accuracy_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    normalize : bool, default=True
        Whether to return the share of the rows.  If False, their number.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import accuracy_score
    >>> accuracy_score(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    0.75
    """
    return _from_pairs(metrics.accuracy_score, y_true, y_pred, sample_weight, normalize=normalize)


def balanced_accuracy_score(
    y_true: Any,
    y_pred: Any,
    *,
    adjusted: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Return the mean recall of the classes, as `sklearn.metrics.balanced_accuracy_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    adjusted : bool, default=False
        Whether to rescale the score, so that random predictions score 0 and perfect ones 1.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import balanced_accuracy_score
    >>> balanced_accuracy_score(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    0.75
    """
    return _from_pairs(
        metrics.balanced_accuracy_score,
        y_true,
        y_pred,
        sample_weight,
        adjusted=adjusted,
    )


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    normalize: Any = None,
    sample_weight: Any = None,
) -> Any:
    """Return how often each class is predicted as which, as `sklearn.metrics.confusion_matrix`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    labels : array-like of shape (n_classes,), default=None
        The classes in the order of the matrix.  None takes those that occur, sorted.
    normalize : {"true", "pred", "all"}, default=None
        What the counts are divided by.

        - ``"true"``: the sum of their row, the weight of the true class.
        - ``"pred"``: the sum of their column, the weight of the predicted class.
        - ``"all"``: the sum of all counts.
        - None: nothing.

    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    matrix : ndarray of shape (n_classes, n_classes)
        Entry ``[i, j]`` counts the rows of class i that are predicted as class j.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import confusion_matrix
    >>> confusion_matrix(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    array([[2, 0],
           [1, 1]])
    """
    return _from_pairs(
        metrics.confusion_matrix,
        y_true,
        y_pred,
        sample_weight,
        labels=labels,
        normalize=normalize,
    )


def precision_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: Any = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the share of correct predictions of a class, as `sklearn.metrics.precision_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    labels : array-like, default=None
        The classes to average over.  None takes all that occur.
    pos_label : int, float, bool or str, default=1
        The class that ``average="binary"`` scores.
    average : {"binary", "micro", "macro", "samples", "weighted"} or None, default="binary"
        How the scores of the classes are averaged.

        - ``"binary"``: only the score of `pos_label`.
        - ``"micro"``: one score of the counts of all classes.
        - ``"macro"``: the mean over the classes.
        - ``"weighted"``: the mean, weighted by the true rows of each class.
        - ``"samples"``: the mean over the rows, for rows with several labels.
        - None: one score for each class.

    zero_division : {"warn", 0.0, 1.0, np.nan}, default="warn"
        The value of a score with a zero divisor.  ``"warn"`` takes 0 with a warning.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float or ndarray of shape (n_classes,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import precision_score
    >>> precision_score(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    1.0
    """
    return _from_pairs(
        metrics.precision_score,
        y_true,
        y_pred,
        sample_weight,
        labels=labels,
        pos_label=pos_label,
        average=average,
        zero_division=zero_division,
    )


def recall_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: Any = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the share of rows of a class that are found, as `sklearn.metrics.recall_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    labels : array-like, default=None
        The classes to average over.  None takes all that occur.
    pos_label : int, float, bool or str, default=1
        The class that ``average="binary"`` scores.
    average : {"binary", "micro", "macro", "samples", "weighted"} or None, default="binary"
        How the scores of the classes are averaged.

        - ``"binary"``: only the score of `pos_label`.
        - ``"micro"``: one score of the counts of all classes.
        - ``"macro"``: the mean over the classes.
        - ``"weighted"``: the mean, weighted by the true rows of each class.
        - ``"samples"``: the mean over the rows, for rows with several labels.
        - None: one score for each class.

    zero_division : {"warn", 0.0, 1.0, np.nan}, default="warn"
        The value of a score with a zero divisor.  ``"warn"`` takes 0 with a warning.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float or ndarray of shape (n_classes,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import recall_score
    >>> recall_score(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    0.5
    """
    return _from_pairs(
        metrics.recall_score,
        y_true,
        y_pred,
        sample_weight,
        labels=labels,
        pos_label=pos_label,
        average=average,
        zero_division=zero_division,
    )


def f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    pos_label: Any = 1,
    average: Any = "binary",
    sample_weight: Any = None,
    zero_division: Any = "warn",
) -> Any:
    """Return the harmonic mean of precision and recall, as `sklearn.metrics.f1_score`.

    Parameters
    ----------
    y_true, y_pred : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels and predicted ones.  Either may be lazy.
    labels : array-like, default=None
        The classes to average over.  None takes all that occur.
    pos_label : int, float, bool or str, default=1
        The class that ``average="binary"`` scores.
    average : {"binary", "micro", "macro", "samples", "weighted"} or None, default="binary"
        How the scores of the classes are averaged.

        - ``"binary"``: only the score of `pos_label`.
        - ``"micro"``: one score of the counts of all classes.
        - ``"macro"``: the mean over the classes.
        - ``"weighted"``: the mean, weighted by the true rows of each class.
        - ``"samples"``: the mean over the rows, for rows with several labels.
        - None: one score for each class.

    zero_division : {"warn", 0.0, 1.0, np.nan}, default="warn"
        The value of a score with a zero divisor.  ``"warn"`` takes 0 with a warning.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float or ndarray of shape (n_classes,)
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import f1_score
    >>> f1_score(da.from_array([0, 1, 1, 0]), da.from_array([0, 1, 0, 0]))
    0.67
    """
    return _from_pairs(
        metrics.f1_score,
        y_true,
        y_pred,
        sample_weight,
        labels=labels,
        pos_label=pos_label,
        average=average,
        zero_division=zero_division,
    )


def roc_auc_score(
    y_true: Any,
    y_score: Any,
    *,
    average: Any = "macro",
    max_fpr: float | None = None,
    multi_class: str = "raise",
    labels: Any = None,
    sample_weight: Any = None,
) -> Any:
    """Return the area under the ROC curve, exactly, as `sklearn.metrics.roc_auc_score`.

    Parameters
    ----------
    y_true : array-like or Dask collection of shape (n_samples,) or (n_samples, n_labels)
        True labels.
    y_score : array-like or Dask collection of shape (n_samples,) or (n_samples, n_classes)
        Scores, such as those of ``decision_function``.  For more than two classes, probabilities
        that add up to 1.  Either may be lazy.
    average : {"micro", "macro", "samples", "weighted"} or None, default="macro"
        How the areas of the classes are averaged.

        - ``"micro"``: one area of all entries together.
        - ``"macro"``: the mean over the classes.
        - ``"weighted"``: the mean, weighted by the true rows of each class.
        - ``"samples"``: the mean over the rows, for rows with several labels.
        - None: one area for each class.

    max_fpr : float, default=None
        Largest false positive rate of a partial area.  None takes the whole area.
    multi_class : {"raise", "ovr", "ovo"}, default="raise"
        What is done with more than two classes.

        - ``"raise"``: an error is raised.
        - ``"ovr"``: each class is compared with the rest.
        - ``"ovo"``: each class is compared with each other class.

    labels : array-like of shape (n_classes,), default=None
        The classes of the columns of scores.  None takes those that occur, sorted.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.  Not with ``multi_class="ovo"``.

    Returns
    -------
    score : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Notes
    -----
    The different scores, with the weight of each class, are collected in one process.  They take 24
    bytes each, and 8 more for each class beyond the second.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import roc_auc_score
    >>> roc_auc_score(da.from_array([0, 0, 1, 1]), da.from_array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    return _from_pairs(
        metrics.roc_auc_score,
        y_true,
        y_score,
        sample_weight,
        weighted=multi_class != "ovo",
        average=average,
        max_fpr=max_fpr,
        multi_class=multi_class,
        labels=labels,
    )


def average_precision_score(
    y_true: Any,
    y_score: Any,
    *,
    average: Any = "macro",
    pos_label: Any = 1,
    sample_weight: Any = None,
) -> Any:
    """Return the average precision, exactly, as `sklearn.metrics.average_precision_score`.

    Parameters
    ----------
    y_true : array-like or Dask collection of shape (n_samples,)
        True labels, of two classes.
    y_score : array-like or Dask collection of shape (n_samples,)
        Scores, such as those of ``decision_function``.  Either may be lazy.
    average : {"micro", "macro", "samples", "weighted"} or None, default="macro"
        How several labels are averaged, for data in memory; see `roc_auc_score`.
    pos_label : int, float, bool or str, default=1
        The class with high scores.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the rows.

    Returns
    -------
    score : float
        Computed in one pass over the chunks.  In memory, scikit-learn's own result.

    Notes
    -----
    The memory needed is that of `roc_auc_score`.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml.metrics import average_precision_score
    >>> average_precision_score(da.from_array([0, 0, 1, 1]), da.from_array([0.1, 0.4, 0.35, 0.8]))
    0.83
    """
    return _from_pairs(
        metrics.average_precision_score,
        y_true,
        y_score,
        sample_weight,
        average=average,
        pos_label=pos_label,
    )
