"""Linear regression whose penalty is chosen by cross-validation, for about the price of one fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.base import LinearEstimator, LinearRegressorMixin
from dask_dml.estimators.explain import Method
from dask_dml.estimators.export import linear_model, transfer
from dask_dml.estimators.monitor import FitMonitor, with_callbacks
from dask_dml.estimators.parameters import (
    BOOLEAN,
    COUNT,
    NON_NEGATIVE,
    NONE,
    VERBOSE,
    Constraint,
    Interval,
    Kind,
    Options,
)
from dask_dml.estimators.regression import DistributedGDRegressor
from dask_dml.input.read import read_input

_SHARE = Interval(Real, 0.0, 1.0, "both")
_SEQUENCE = Kind((Sequence, np.ndarray), "an array-like")


class DistributedGDRegressorCV(LinearRegressorMixin, LinearEstimator):
    """Linear regression by squared error, with the penalty chosen by cross-validation in one pass.

    Minimises the objective of `DistributedGDRegressor` with ``loss="squared_error"`` for every
    strength of the penalty on every training set.  One pass over the data collects the second
    moments of each fold.  The solutions, and their errors on the rows held out, then follow on
    the driver, so that a search costs little more than a single fit.  No fold copies the data.

    Parameters
    ----------
    alphas : int or array-like of shape (n_alphas,), default=100
        Strengths of the penalty to try.  An int is their number.  They are then evenly spaced on
        a logarithmic scale: the largest is the smallest alpha at which all coefficients are zero,
        and the smallest is `eps` times that.  (If the share of the L1 norm is below 0.001, the
        largest is computed for 0.001.  Without an L1 norm, it is ten times the largest variance
        of a column.)
    eps : float, default=1e-3
        Ratio of the smallest to the largest alpha.  Read if `alphas` is an int.
    penalty : {"l2", "l1", "elasticnet"}, default="l2"
        Penalty of the coefficients.

        - ``"l2"``: half the sum of their squares.
        - ``"l1"``: the sum of their absolute values, which makes many of them zero.
        - ``"elasticnet"``: a mixture of the two, see `l1_ratio`.

    l1_ratio : float or array-like of float, default=0.15
        Share of the L1 norm where ``penalty="elasticnet"``.  From several, one is chosen.
    fit_intercept : bool, default=True
        Whether to fit an intercept.  It is never penalised.
    cv : int, cross-validation splitter, iterable of (train, test) or None, default=None
        How the rows are split.

        - int: that many folds of consecutive rows, like `sklearn.model_selection.KFold`.
        - None: five such folds.
        - A splitter: it is asked for positions of rows, and receives neither y nor groups.
        - An iterable: positions of the training rows and of the test rows of each split.

    selection : {"min", "1se"}, default="min"
        Which penalty is chosen.

        - ``"min"``: the one with the smallest mean error.
        - ``"1se"``: the strongest one whose mean error is within one standard error of the
          smallest, at the same `l1_ratio`.

    tol : float, default=1e-6
        Relative duality gap at which a fit counts as converged.
    n_shards : int, "blocks" or None, default=None
        As in `DistributedGDRegressor`.
    verbose : int, default=0
        Whether to print what was chosen.  0 prints nothing.
    n_jobs : int or None, default=None
        Number of threads for data in memory.  None means all cores, or one inside a Dask task.

    Attributes
    ----------
    alpha_ : float
        The alpha that was chosen.
    l1_ratio_ : float
        The share of the L1 norm that was chosen: 0.0 for ``penalty="l2"``, 1.0 for ``"l1"``.
    alphas_ : ndarray of shape (n_alphas,) or (n_l1_ratios, n_alphas)
        The alphas that were tried, descending.  A row for each share of the L1 norm if there are
        several and `alphas` is an int.
    mse_path_ : ndarray of shape (n_alphas, n_folds) or (n_l1_ratios, n_alphas, n_folds)
        Mean squared errors on the test rows of each fold, weighted by the sample weights and
        averaged over the outputs.
    dual_gaps_ : ndarray of the shape of `mse_path_`
        Relative duality gaps of the solutions, the largest among the outputs.
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Coefficients for the chosen penalty, fitted to all rows.
    intercept_ : float or ndarray of shape (n_outputs,)
        Intercept; 0.0 if none was fitted.
    duality_gap_ : float
        Relative duality gap of the fit to all rows.
    converged_ : bool
        Whether the fit to all rows met `tol`.
    n_iter_ : int
        Number of passes of the fit to all rows that used the statistics or the data.
    n_rounds_ : int
        Number of passes over the data of the whole search.  One of them only counts rows.
    engine_ : {"memory", "cluster", "streaming"}
        Where the rows were.

        - ``"memory"``: in this process.
        - ``"cluster"``: on the workers of a cluster.
        - ``"streaming"``: in neither, because they did not fit; every pass read them again.

    n_recoveries_ : int
        Number of losses of workers that the search recovered from.
    fit_seconds_ : float
        Seconds that the fit took.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    DistributedGDRegressor
    sklearn.linear_model.RidgeCV, sklearn.linear_model.LassoCV, sklearn.linear_model.ElasticNetCV

    Notes
    -----
    The driver holds one matrix of ``n_features**2`` numbers for each fold, and a worker one for
    each fold and shard.  The errors on the test rows are differences of sums.  Their absolute
    precision is about 1e-13 of the variance of the targets.  The standard error of
    ``"1se"`` is that of the mean over the folds (Hastie, Tibshirani and Friedman, *The Elements of
    Statistical Learning*, 2009, section 7.10).

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressorCV
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> y = X[:, 0] + 0.1 * X[:, 1]
    >>> model = DistributedGDRegressorCV(penalty="l1", alphas=20).fit(X, y)
    >>> model.alphas_.shape, model.mse_path_.shape
    ((20,), (20, 5))
    >>> int(model.coef_.argmax())
    0
    """

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "alphas": (COUNT, _SEQUENCE),
        "eps": (Interval(Real, 0.0, 1.0, "neither"),),
        "penalty": (Options(("l2", "l1", "elasticnet")),),
        "l1_ratio": (_SHARE, _SEQUENCE),
        "fit_intercept": (BOOLEAN,),
        "cv": (Interval(Integral, 2), Kind((object,), "a splitter"), NONE),
        "selection": (Options(("min", "1se")),),
        "tol": (NON_NEGATIVE,),
        "n_shards": (COUNT, Options(("blocks", None))),
        "verbose": (VERBOSE,),
        "n_jobs": (Kind((Integral,), "an int"), NONE),
    }

    def __init__(
        self,
        *,
        alphas: int | Any = 100,
        eps: float = 1e-3,
        penalty: Literal["l2", "l1", "elasticnet"] = "l2",
        l1_ratio: float | Any = 0.15,
        fit_intercept: bool = True,
        cv: Any = None,
        selection: Literal["min", "1se"] = "min",
        tol: float = 1e-6,
        n_shards: int | Literal["blocks"] | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.eps = eps
        self.penalty = penalty
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.selection = selection
        self.tol = tol
        self.n_shards = n_shards
        self.verbose = verbose
        self.n_jobs = n_jobs

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DistributedGDRegressorCV:
        """Choose the penalty by cross-validation, and fit all rows with it.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Training data, with up to 2000 columns.
        y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
            Targets; need not be chunked like X.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows, in the fits and in the errors.

        Returns
        -------
        self : DistributedGDRegressorCV
            The fitted estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are invalid, a fold has no rows of positive
            weight, or X has more than 2000 columns.
        TypeError
            If a parameter or a column has the wrong type.
        """
        ratios, alphas = self.check_grid()
        from dask_dml.model_selection.penalty_search import check_columns, search
        from dask_dml.rounds import open_rounds

        monitor = FitMonitor(self, X, y, sample_weight)
        with self._unchanged_on_error():
            chunks = read_input(self, X, y, sample_weight)
            check_columns(chunks.n_features, type(self).__name__)
            with open_rounds(chunks, n_shards=self.n_shards, n_jobs=self.n_jobs) as rounds:
                found = search(
                    rounds,
                    len(chunks.X),
                    cv=self.cv,
                    ratios=ratios,
                    alphas=alphas,
                    eps=self.eps,
                    fit_intercept=bool(self.fit_intercept),
                    one_standard_error=self.selection == "1se",
                    tol=self.tol,
                )
                self._set_rounds(rounds)
            self._set_found(found, chunks.multi_output)
        monitor.end()
        return self

    def _method(self, n_rows: float, chunks: Any) -> Method:  # noqa: ARG002 - as of classifiers
        from dask_dml.model_selection.penalty_search import check_columns

        check_columns(chunks.n_features, type(self).__name__)
        why = (
            "one pass collects the second moments of every fold; all penalties are solved from them"
        )
        return Method("statistics", why, (1, 3), squares=True)

    def _set_found(self, found: Any, multi_output: bool) -> None:
        self.alpha_, self.l1_ratio_ = found.alpha, found.l1_ratio
        shared = not isinstance(self.alphas, Integral) or len(found.alphas) == 1
        self.alphas_ = found.alphas[0] if shared else found.alphas
        self.mse_path_, self.dual_gaps_ = (
            path[0] if len(path) == 1 else path for path in (found.errors, found.gaps)
        )
        self._set_coefficients(found.coef, found.intercept, multi_output)
        self._weight_sum = found.weight
        self.duality_gap_ = max(outcome.relative_gap for outcome in found.outcomes)
        self.converged_ = all(outcome.converged for outcome in found.outcomes)
        self.n_iter_ = max(1, *(outcome.n_iter for outcome in found.outcomes))
        report = self._report(self.verbose)
        if report is not None:
            report(
                f"alpha {self.alpha_:.6g}, l1_ratio {self.l1_ratio_:g}: mean squared error "
                f"{found.mean_error:.6g} on the rows held out"
            )
        if not (self.converged_ and found.converged):
            self._warn_not_converged(
                f"the largest relative duality gap is {self.dual_gaps_.max():.2e} "
                f"(tol={self.tol:g})",
                "Scale the columns, or try larger alphas.",
            )

    def check_grid(self) -> tuple[list[float], int | np.ndarray]:
        """Check all parameters.

        Returns
        -------
        ratios : list of float
            Shares of the L1 norm to try.
        alphas : int or ndarray
            Number of strengths of the penalty, or themselves, descending.

        Raises
        ------
        ValueError
            If a parameter is invalid.
        """
        self._check_parameters()
        return self._l1_ratios(), self._given_alphas()

    def _l1_ratios(self) -> list[float]:
        if self.penalty != "elasticnet":
            return [1.0 if self.penalty == "l1" else 0.0]
        ratios = np.atleast_1d(np.asarray(self.l1_ratio, dtype=np.float64))
        if ratios.ndim != 1 or not len(ratios) or not np.all((ratios >= 0.0) & (ratios <= 1.0)):
            raise ValueError(
                "The 'l1_ratio' parameter must be a float in the range [0.0, 1.0] or a list of "
                f"them. Got {self.l1_ratio!r} instead."
            )
        return [float(ratio) for ratio in ratios]

    def _given_alphas(self) -> int | np.ndarray:
        if isinstance(self.alphas, Integral):
            return int(self.alphas)
        alphas = np.asarray(self.alphas, dtype=np.float64)
        if alphas.ndim != 1 or not len(alphas) or not np.all(alphas >= 0.0):
            raise ValueError(
                "The 'alphas' parameter must be an int or a list of non-negative numbers. Got "
                f"{self.alphas!r} instead."
            )
        return np.sort(alphas)[::-1]

    def to_sklearn(self) -> Any:
        """Return a fitted scikit-learn regressor with the same predictions.

        Returns
        -------
        model : LinearRegression, Ridge, Lasso or ElasticNet
            The regressor whose ``fit`` would solve the chosen problem on the same rows and weights.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        chosen = DistributedGDRegressor(
            penalty="elasticnet",
            alpha=self.alpha_,
            l1_ratio=self.l1_ratio_,
            fit_intercept=self.fit_intercept,
        )
        fitted = {"coef_": self.coef_, "intercept_": self.intercept_, "n_iter_": self.n_iter_}
        return linear_model(transfer(self, chosen, **fitted), self._weight_sum)
