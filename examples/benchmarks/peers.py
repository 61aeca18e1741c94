"""The contestants: this package's estimators and those of other libraries, for one objective each.

Each function returns the maker of an estimator for a tolerance.  Libraries are imported when they
are needed, so that one that is not installed costs its own rows only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Maker = Callable[[float], Any]
#: From loose to strict: the loosest that reaches the accuracy asked for is timed.
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10)


@dataclass(frozen=True)
class Contestant:
    """Who takes part in a workload, and how its data are held.

    Parameters
    ----------
    make : callable
        ``make(tol)`` returns an estimator.
    tolerances : tuple of float
        Those to be tried, loosest first.
    cluster : tuple of int or None
        Number of worker processes and threads of each that hold the rows; None: NumPy or CSR rows
        in the process that fits.
    n_chunks : int
        Number of chunks of rows on a cluster.
    repeat : int
        Fits of one measurement, for fits of milliseconds.
    streamed : bool
        The rows stay on disk and are read whenever they are needed.
    memory_limit : int
        Bytes of each worker process; 0: no limit.
    """

    make: Maker
    tolerances: tuple[float, ...] = TOLERANCES
    cluster: tuple[int, int] | None = None
    n_chunks: int = 8
    repeat: int = 1
    streamed: bool = False
    memory_limit: int = 0


def ours(make: Maker, **holding: Any) -> Contestant:
    """Return this package's contestant, its rows on two one-thread workers."""
    return Contestant(make, (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-9), **{"cluster": (2, 1)} | holding)


def gd(**parameters: Any) -> Maker:
    """Return the maker of this package's regressor."""

    def make(tol: float) -> Any:
        from dask_dml import DistributedGDRegressor

        return DistributedGDRegressor(**{"tol": tol} | parameters)

    return make


def sgd(**parameters: Any) -> Maker:
    """Return the maker of this package's stochastic regressor."""

    def make(tol: float) -> Any:
        from dask_dml import DistributedSGDRegressor

        return DistributedSGDRegressor(**{"tol": tol, "random_state": 0} | parameters)

    return make


def svc(**parameters: Any) -> Maker:
    """Return the maker of this package's classifier."""

    def make(tol: float) -> Any:
        from dask_dml import DistributedLinearSVC

        return DistributedLinearSVC(**{"tol": tol} | parameters)

    return make


def sklearn(module: str, name: str, *, max_iter: int | None = 10_000, **parameters: Any) -> Maker:
    """Return the maker of one of scikit-learn's estimators."""
    if max_iter is not None:
        parameters["max_iter"] = max_iter

    def make(tol: float) -> Any:
        from importlib import import_module

        kind = getattr(import_module(f"sklearn.{module}"), name)
        return kind(**{"tol": tol} | parameters)

    return make


def snap_svc(loss: str, C: float) -> Maker:
    """Return the maker of snapml's classifier with liblinear's objective, on two threads."""

    def make(tol: float) -> Any:
        from snapml import SupportVectorMachine

        return SupportVectorMachine(
            loss=loss,
            regularizer=1.0 / C,
            tol=tol,
            max_iter=1000,
            n_jobs=2,
            fit_intercept=True,
            intercept_scaling=1.0,
            use_gpu=False,
        )

    return make


def snap_linear(penalty: str, regularizer: float) -> Maker:
    """Return the maker of snapml's linear regression without an intercept, on two threads."""

    def make(tol: float) -> Any:
        from snapml import LinearRegression

        return LinearRegression(
            penalty=penalty,
            regularizer=regularizer,
            tol=tol,
            max_iter=10_000,
            n_jobs=2,
            fit_intercept=False,
            dual=penalty == "l2",
        )

    return make


def celer(alpha: float) -> Maker:
    """Return the maker of celer's lasso."""

    def make(tol: float) -> Any:
        from celer import Lasso

        return Lasso(alpha=alpha, tol=tol, fit_intercept=False)

    return make


def skglm(name: str, **parameters: Any) -> Maker:
    """Return the maker of one of skglm's estimators."""

    def make(tol: float) -> Any:
        import skglm

        return getattr(skglm, name)(tol=tol, fit_intercept=False, **parameters)

    return make


def glum(alpha: float, l1_ratio: float) -> Maker:
    """Return the maker of glum's linear model of the normal family."""

    def make(tol: float) -> Any:
        from glum import GeneralizedLinearRegressor

        return GeneralizedLinearRegressor(
            family="normal", alpha=alpha, l1_ratio=l1_ratio, gradient_tol=tol, fit_intercept=False
        )

    return make


def quantile_by_highs(quantile: float, alpha: float) -> Maker:
    """Return the maker of scikit-learn's quantile regression."""

    def make(tol: float) -> Any:
        from sklearn.linear_model import QuantileRegressor

        return QuantileRegressor(quantile=quantile, alpha=alpha)

    return make


class PlainRead:
    """What reads X once, and finds nothing: the least that any pass costs."""

    def __init__(self, tol: float) -> None:
        self.coef_ = np.zeros(0)

    def fit(self, X: Any, y: Any) -> PlainRead:
        """Sum the columns."""
        self.coef_ = np.zeros_like(X.sum(axis=0).compute())
        return self
