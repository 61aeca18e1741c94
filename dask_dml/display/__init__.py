"""Pictures of fits, searches and predictions, by matplotlib (extra ``viz``)."""

from dask_dml.display.coefficients import CoefficientDisplay
from dask_dml.display.convergence import ConvergenceDisplay
from dask_dml.display.path import PathDisplay
from dask_dml.display.predictions import PredictionsDisplay
from dask_dml.display.search import CVCurveDisplay

__all__ = [
    "CVCurveDisplay",
    "CoefficientDisplay",
    "ConvergenceDisplay",
    "PathDisplay",
    "PredictionsDisplay",
]
