"""Scores and losses of lazy predictions."""

from dask_dml.metrics.classification import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)
from dask_dml.metrics.losses import hinge_loss, log_loss
from dask_dml.metrics.regression import (
    max_error,
    mean_absolute_error,
    mean_pinball_loss,
    mean_squared_error,
    r2_score,
    root_mean_squared_error,
)
from dask_dml.metrics.scorers import get_scorer

__all__ = [
    "accuracy_score",
    "average_precision_score",
    "balanced_accuracy_score",
    "confusion_matrix",
    "f1_score",
    "get_scorer",
    "hinge_loss",
    "log_loss",
    "max_error",
    "mean_absolute_error",
    "mean_pinball_loss",
    "mean_squared_error",
    "precision_score",
    "r2_score",
    "recall_score",
    "roc_auc_score",
    "root_mean_squared_error",
]
