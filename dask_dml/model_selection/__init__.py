"""Splitting of Dask collections, and the choice of a penalty."""

from dask_dml.model_selection.path import regularization_path
from dask_dml.model_selection.split import train_test_split

__all__ = ["regularization_path", "train_test_split"]
