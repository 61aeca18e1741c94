"""Callbacks for `set_callbacks`; those of `sklearn.callback` work as well."""

from dask_dml.callbacks.early_stopping import EarlyStopping

__all__ = ["EarlyStopping"]
