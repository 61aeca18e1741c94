"""Distributed linear models on Dask with scikit-learn's interface."""

from importlib import import_module
from typing import Any

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
    "callbacks",
    "compose",
    "display",
    "inspection",
    "metrics",
    "model_selection",
    "preprocessing",
    "to_sklearn",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import a public subpackage when it is first asked for."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
