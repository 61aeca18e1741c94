"""What the estimators share: checking, restoring after a failure, prediction and score."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.explain import ExplainedMixin
from dask_dml.estimators.monitor import FitMonitor
from dask_dml.estimators.parameters import Constraint, check_parameters
from dask_dml.estimators.prediction import linear_predict, linear_score
from dask_dml.estimators.summary import DOCUMENTATION, fit_html

if TYPE_CHECKING:
    from dask_dml.rounds.plan import WantedShards

#: What `dask_dml.input.chunks.describe_nonfinite` says where it is given no names.
_BAD_COLUMN = re.compile(r"(Input X contains .*?, column )(\d+)(\..*)", re.DOTALL)

#: Columns between which the driver's systems are large enough for several threads.
SMALL_SYSTEM, LARGE_SYSTEM = 500, 2000


class LinearEstimator(ExplainedMixin, BaseEstimator):
    """Parameters and failed fits, for every estimator of the package."""

    # Where scikit-learn's HTML representation finds the documentation.
    _doc_link_module = "dask_dml"
    _doc_link_template = DOCUMENTATION + "api/dask_dml.{estimator_name}.html"

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]]
    n_shards: int | Literal["blocks"] | None
    verbose: int
    n_rounds_: int
    engine_: str
    n_recoveries_: int

    def _set_rounds(self, rounds: Any) -> None:
        self.n_rounds_ = rounds.n_rounds
        self._n_samples = sum(rounds.shard_rows)
        self.engine_ = rounds.engine
        self.n_recoveries_ = rounds.n_recoveries

    def _wanted_shards(self) -> WantedShards:
        """Return the number of nodes, as `dask_dml.rounds.choose.open_rounds` takes it."""
        return self.n_shards

    @property
    def _repr_html_(self) -> Callable[[], str]:
        """As scikit-learn's, with what a fit has come to below it."""
        own = super()._repr_html_
        return lambda: own() + fit_html(self)

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += fit_html(self)
        return bundle

    def _check_parameters(self) -> None:
        check_parameters(type(self).__name__, self.get_params(deep=False), self._constraints)

    def _check(self) -> None:
        """Raise if parameters are invalid, or contradict each other."""
        self._check_parameters()

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Put the attributes back as they were if the block raises."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            _name_column(error, self.__dict__.get("feature_names_in_"))
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _deadline(self, max_time: float | None) -> float:
        return np.inf if max_time is None else time.monotonic() + max_time

    def _open_local(self, blocks: Any) -> Any:
        """Make rounds over blocks of this process."""
        from dask_dml.rounds.choose import count_threads
        from dask_dml.rounds.local import LocalRounds, make_shards

        n_threads = count_threads(self.n_jobs)
        return LocalRounds(make_shards(blocks, None, n_threads), n_threads)

    def _driver_threads(self, n_features: int) -> AbstractContextManager[None]:
        """Return the context in which the driver solves its systems between rounds.

        Those of few columns, and the small ones that stand for very many, take a thread less time
        than it takes to wake the others; and these go on spinning for some time, on cores that
        workers of this machine need.
        """
        if SMALL_SYSTEM < n_features <= LARGE_SYSTEM:
            return nullcontext()
        from dask_dml.rounds.threads import BlasLimit

        return BlasLimit()()

    def _report(self, verbose: int) -> Callable[[str], None] | None:
        if not verbose:
            return None
        name = type(self).__name__
        # One write a line: the fits of a search print from threads.
        return lambda line: print(f"[{name}] {line}\n", end="", flush=True)

    def _lines(self, monitor: FitMonitor | None) -> Callable[[str], None] | None:
        """Return what takes the solvers' lines of text."""
        if monitor is None or monitor.report is None:
            return self._report(self.verbose) if monitor is None else None
        limits = (f"{name}={getattr(self, name)!r}" for name in ("max_iter", "tol", "max_time"))
        return monitor.lines(", ".join(one for one in limits if not one.endswith("None")))

    def _warn_not_converged(self, reached: str, remedy: str) -> None:
        warnings.warn(
            f"{type(self).__name__} stopped before it met tol: {reached}. {remedy}",
            ConvergenceWarning,
            stacklevel=3,
        )


def _name_column(error: BaseException, names: np.ndarray | None) -> None:
    """Say the name of the column, which the blocks do not know, where an error has its number."""
    if names is None or not isinstance(error, ValueError) or not error.args:
        return
    found = _BAD_COLUMN.match(str(error.args[0]))
    if found is not None:
        before, column, after = found.groups()
        error.args = (f"{before}{str(names[int(column)])!r}{after}", *error.args[1:])


class LinearRegressorMixin(MultiOutputMixin, RegressorMixin):
    """Prediction and score of a linear regressor with ``coef_`` and ``intercept_``."""

    coef_: np.ndarray
    intercept_: float | np.ndarray

    def predict(self, X: Any) -> Any:
        """Predict the target.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows to predict.

        Returns
        -------
        y : ndarray, dask array or dask Series/DataFrame of shape (n_samples,) or \
                (n_samples, n_outputs)
            ``X @ coef_.T + intercept_``, float32 if X is, otherwise float64.  Lazy for a
            Dask collection, chunked or partitioned like X.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If X has another number of features, or other feature names, than at the fit.
        """
        check_is_fitted(self)
        return linear_predict(self, X, *self._model(), squeeze=self.coef_.ndim == 1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the coefficient of determination R^2 of the prediction.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Rows to predict.
        y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
            True values.
        sample_weight : array-like or Dask collection of shape (n_samples,), default=None
            Sample weights.

        Returns
        -------
        score : float
            R^2, averaged over the outputs.  A Dask collection is read once.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        ValueError
            If the input is invalid or does not match the fit.
        """
        check_is_fitted(self)
        return linear_score(self, X, y, *self._model(), sample_weight=sample_weight)

    def _model(self) -> tuple[np.ndarray, np.ndarray]:
        return np.atleast_2d(self.coef_), np.atleast_1d(self.intercept_)

    def _set_coefficients(self, coef: np.ndarray, intercept: np.ndarray, multi: bool) -> None:
        self.__dict__.update(self._coefficients(coef, intercept, multi))

    @staticmethod
    def _coefficients(coef: np.ndarray, intercept: np.ndarray, multi: bool) -> dict[str, Any]:
        # Of a y of shape (n_samples, 1) as in scikit-learn's Ridge, Lasso and SGDRegressor.
        return {
            "coef_": coef if len(coef) > 1 else coef[0],
            "intercept_": intercept if multi else float(intercept[0]),
        }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
