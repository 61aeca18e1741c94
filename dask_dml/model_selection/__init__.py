"""Splitting of Dask collections."""

from dask_dml.model_selection.split import train_test_split

__all__ = ["train_test_split"]
