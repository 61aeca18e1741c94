"""Splitting of Dask collections, searches, and the choice of a penalty."""

from dask_dml.model_selection.groups import DistributedGroupKFold
from dask_dml.model_selection.path import regularization_path
from dask_dml.model_selection.search import (
    DistributedGridSearchCV,
    DistributedRandomizedSearchCV,
)
from dask_dml.model_selection.split import train_test_split
from dask_dml.model_selection.splitters import (
    DistributedKFold,
    DistributedRepeatedKFold,
    DistributedShuffleSplit,
    DistributedStratifiedKFold,
    DistributedTimeSeriesSplit,
)
from dask_dml.model_selection.validation import (
    cross_val_predict,
    cross_val_score,
    cross_validate,
)

__all__ = [
    "DistributedGridSearchCV",
    "DistributedGroupKFold",
    "DistributedKFold",
    "DistributedRandomizedSearchCV",
    "DistributedRepeatedKFold",
    "DistributedShuffleSplit",
    "DistributedStratifiedKFold",
    "DistributedTimeSeriesSplit",
    "cross_val_predict",
    "cross_val_score",
    "cross_validate",
    "regularization_path",
    "train_test_split",
]
