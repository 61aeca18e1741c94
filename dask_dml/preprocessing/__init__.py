"""Transformers that learn where the rows are."""

from dask_dml.preprocessing.scaler import DistributedStandardScaler

__all__ = ["DistributedStandardScaler"]
