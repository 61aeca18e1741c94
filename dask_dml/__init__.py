"""Distributed linear models on Dask with scikit-learn's interface."""

from dask_dml.estimators.checkpoint import Checkpoint
from dask_dml.estimators.export import to_sklearn
from dask_dml.estimators.regression import DistributedGDRegressor
from dask_dml.estimators.sgd import DistributedSGDRegressor
from dask_dml.estimators.svc import DistributedLinearSVC
from dask_dml.model_selection.regression_cv import DistributedGDRegressorCV
from dask_dml.model_selection.svc_cv import DistributedLinearSVCCV

__all__ = [
    "Checkpoint",
    "DistributedGDRegressor",
    "DistributedGDRegressorCV",
    "DistributedLinearSVC",
    "DistributedLinearSVCCV",
    "DistributedSGDRegressor",
    "to_sklearn",
]
__version__ = "0.1.0"
