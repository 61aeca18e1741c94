"""Distributed linear models on Dask with scikit-learn's interface."""

from dask_dml.regression import DistributedGDRegressor

__all__ = ["DistributedGDRegressor"]
__version__ = "0.1.0"
