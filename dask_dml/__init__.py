"""Distributed linear models on Dask with scikit-learn's interface."""

from dask_dml.regression import DistributedGDRegressor
from dask_dml.stochastic import DistributedSGDRegressor
from dask_dml.svm import DistributedLinearSVC

__all__ = ["DistributedGDRegressor", "DistributedLinearSVC", "DistributedSGDRegressor"]
__version__ = "0.1.0"
