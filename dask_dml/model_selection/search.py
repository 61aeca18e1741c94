"""Searches for hyperparameters whose fits share their passes over the data."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sklearn
from sklearn.base import is_classifier
from sklearn.model_selection import (
    GridSearchCV,
    ParameterGrid,
    ParameterSampler,
    RandomizedSearchCV,
)
from sklearn.utils.metadata_routing import process_routing

from dask_dml.estimators.monitor import CallbackSupportMixin, with_callbacks
from dask_dml.model_selection.results import Trial, cv_results
from dask_dml.model_selection.scoring import Scoring
from dask_dml.model_selection.watch import SearchMonitor

if TYPE_CHECKING:
    from dask_dml.model_selection.evaluation import Evaluation, Plan
    from dask_dml.model_selection.watch import Propagation


class _SharedPasses(CallbackSupportMixin):
    """`fit` of a search; everything else is scikit-learn's."""

    estimator: Any
    scoring: Any
    refit: Any
    cv: Any
    verbose: int
    halving: float | None
    error_score: Any
    return_train_score: bool

    @with_callbacks
    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit every candidate on every fold, and the best one on all rows.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Training data.  Chunks of a Dask collection may be of unknown size.
        y : array-like or Dask collection of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        **params : dict
            Arguments of ``fit`` of the estimator, and ``groups`` for the splitter.
            ``sample_weight`` counts in the fits, and in the scores if the scorer accepts it.  With
            metadata routing, arguments are passed on to the objects that request them.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If parameters or the input are invalid, or all fits failed.
        """
        # Numba is loaded at the first fit: importing the package stays quick.
        from dask_dml.model_selection.evaluation import Evaluation

        candidates = self._candidates()
        scoring = Scoring.of(self.scoring, self.estimator)
        self._check_refit_parameter(scoring)
        plan, refit = self._plan(scoring, params), self.refit is not False
        monitor = SearchMonitor(self, X, y, params.get("sample_weight"), 1 + refit)
        with Evaluation(self.estimator, X, y, plan, monitor.after_round) as evaluation:
            if self.verbose > 0:
                print(f"Fitting {len(candidates)} candidates on the folds together", flush=True)
            with monitor.stage("search"):
                trials, rung, extra = self._run(evaluation, candidates, scoring, monitor)
            self.n_splits_ = evaluation.n_splits
            results = cv_results(candidates, trials, train=self.return_train_score, rung=rung)
            results.update(extra)
            names = list(trials[0][0].test)
            self.multimetric_ = not (scoring.single and names == ["score"])
            self._check_several(names)
            self.scorer_ = scoring.scorers["score"] if scoring.single else scoring.scorers
            self.cv_results_ = results
            self._choose(results)
            if self.refit:
                with monitor.stage("refit") as propagation:
                    self._fit_best(evaluation, propagation)
        monitor.end()
        return self

    def _run(
        self,
        evaluation: Evaluation,
        candidates: list[dict[str, Any]],
        scoring: Scoring,
        monitor: SearchMonitor,
    ) -> tuple[list[list[Trial]], np.ndarray | None, dict[str, np.ndarray]]:
        """Return the trials, by candidate and split, and what is known of candidates that left."""
        # Numba is loaded at the first fit, as above.
        from dask_dml.model_selection.halving import check_factor, run_by_halving

        if self.halving is None:
            return evaluation.run(candidates), None, {}
        factor = check_factor(self.halving, self.estimator)
        name = "score" if scoring.single else self.refit
        if not isinstance(name, str):
            raise ValueError(
                "halving needs one score that decides who goes on: set refit to its name, got "
                f"refit={self.refit!r}."
            )
        found = run_by_halving(evaluation, candidates, factor, name, monitor.say)
        extra = {"iter": found.rung, "n_resources": found.n_iterations}
        return found.trials, found.rung, extra

    def _plan(self, scoring: Scoring, params: dict[str, Any]) -> Plan:
        from dask_dml.model_selection.evaluation import Plan

        routing = bool(sklearn.get_config()["enable_metadata_routing"])
        if routing:
            routed = process_routing(self, "fit", **params)
            split, fit, score = routed.splitter.split, routed.estimator.fit, routed.scorer.score
        else:
            fit = {name: value for name, value in params.items() if name != "groups"}
            split = {"groups": params.get("groups")}
            score = {name: fit[name] for name in ("sample_weight",) if name in fit}
        return Plan(
            scoring=scoring,
            cv=self.cv,
            classifier=is_classifier(self.estimator),
            split=split,
            fit={name: value for name, value in fit.items() if value is not None},
            score={name: value for name, value in score.items() if value is not None},
            train=self.return_train_score,
            error_score=self.error_score,
            routed=routing,
        )

    def _candidates(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def _check_refit_parameter(self, scoring: Scoring) -> None:
        if not scoring.single:
            self._check_several(list(scoring.scorers))

    def _check_several(self, names: Sequence[str]) -> None:
        if list(names) == ["score"] or self.refit is False or callable(self.refit):
            return
        if not isinstance(self.refit, str) or self.refit not in names:
            raise ValueError(
                "For multi-metric scoring, the parameter refit must be set to a scorer key or a "
                "callable to refit an estimator with the best parameter setting on the whole data "
                "and make the best_* attributes available for that metric. If this is not needed, "
                f"refit should be set to False explicitly. {self.refit!r} was passed."
            )

    def _choose(self, results: dict[str, Any]) -> None:
        if not self.refit and self.multimetric_:
            return
        name = self.refit if self.multimetric_ else "score"
        if callable(self.refit):
            index = self.refit(results)
            if not isinstance(index, int | np.integer):
                raise TypeError("best_index_ returned is not an integer")
            if not 0 <= index < len(results["params"]):
                raise IndexError("best_index_ index out of range")
            self.best_index_ = index
        else:
            self.best_index_ = results[f"rank_test_{name}"].argmin()
            self.best_score_ = results[f"mean_test_{name}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]

    def _fit_best(self, evaluation: Evaluation, propagation: Propagation) -> None:
        begin = time.perf_counter()
        self.best_estimator_ = evaluation.fit_all(self.best_params_, propagation)
        self.refit_time_ = time.perf_counter() - begin
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


class DistributedGridSearchCV(_SharedPasses, GridSearchCV):
    """Exhaustive search over parameter values, at the cost of a few fits.

    Parameters, attributes and results are those of `sklearn.model_selection.GridSearchCV`.  The
    estimators of this package, alone or as the last step of a `Pipeline`, are fitted together for
    all candidates and folds.  One pass over the data serves all fits that have not converged yet,
    and one more pass computes all scores.  Candidates of any other estimator are fitted one by one.

    Parameters
    ----------
    estimator : estimator
        `DistributedGDRegressor`, `DistributedSGDRegressor`, `DistributedLinearSVC`, or a pipeline
        that ends in one of them.
    param_grid : dict or list of dict
        Names of the parameters, and the values to try for each.
    scoring : str, callable, list, tuple or dict, default=None
        As in scikit-learn.  Scores of residuals and of predicted classes are computed from sums.
        For other scorers of scikit-learn the predictions come to this process.  A callable
        receives the test rows.
    n_jobs : int or None, default=None
        Not used.  The number of threads is a parameter of the estimator.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all rows.  A str names the score that decides; a
        callable chooses from ``cv_results_``.
    cv : int, splitter or iterable, default=None
        As in scikit-learn.  Splitters receive the number of rows and, if they need them, the
        targets and groups, but not X.  None stands for five folds.
    verbose : int, default=0
        Whether to print the number of candidates, and after each pass how many of them are still
        under way.  0 prints nothing.
    pre_dispatch : int or str, default='2*n_jobs'
        Not used.
    error_score : "raise" or float, default=nan
        Score of a fit that fails.  ``"raise"`` raises its error.
    return_train_score : bool, default=False
        Whether to score the training rows as well.
    halving : float or None, default=None
        None fits every candidate to its end.  A number above one compares all candidates after 5
        iterations.  One in so many goes on, with so many times the iterations, until no more than
        so many are left, which are fitted to their end.  The others leave with the scores that
        they have reached.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        Scores, ranks and parameters.  Fits that run together are given equal shares of the time.
        With `halving` ``iter`` counts how often a candidate has gone on, and ``n_resources`` is the
        number of iterations that it was given last.  Those that left rank behind those that stayed.
    best_estimator_ : estimator
        The best candidate, fitted to all rows.
    best_score_ : float
        Mean score of the best candidate.
    best_params_ : dict
        Parameters of the best candidate.
    best_index_ : int
        Position of the best candidate in ``cv_results_``.
    scorer_ : callable or dict of str to callable
        The scorer, or one for each score.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds that the fit to all rows took.
    multimetric_ : bool
        Whether there are several scores.

    See Also
    --------
    DistributedRandomizedSearchCV, sklearn.model_selection.GridSearchCV

    Notes
    -----
    Up to 256 fits run at a time.  Each keeps its own values beside every shard, and its own
    problem on the driver.  Scores that are computed from sums need no memory of the size of the
    data.

    Fits that go on by `halving` begin anew unless they have converged, so that the last ones are
    those of a search without it.
    It pays where fits take many iterations, but not for squared error, whose fits all take one
    pass.  The method is successive halving: K. Jamieson, A. Talwalkar (2016), "Non-stochastic best
    arm identification and hyperparameter optimization", AISTATS.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.model_selection import DistributedGridSearchCV
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> y = X[:, 0] + 0.1 * X[:, 1]
    >>> search = DistributedGridSearchCV(DistributedGDRegressor(), {"alpha": [1e-3, 1.0]}, cv=3)
    >>> search.fit(X, y).best_params_
    {'alpha': 0.001}
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        halving: float | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.halving = halving

    def _candidates(self) -> list[dict[str, Any]]:
        return list(ParameterGrid(self.param_grid))


class DistributedRandomizedSearchCV(_SharedPasses, RandomizedSearchCV):
    """Search over parameter values drawn at random, at the cost of a few fits.

    Parameters, attributes and results are those of `sklearn.model_selection.RandomizedSearchCV`.
    See `DistributedGridSearchCV` for what is fitted together.

    Parameters
    ----------
    estimator : estimator
        See `DistributedGridSearchCV`.
    param_distributions : dict or list of dict
        Names of the parameters, and for each a distribution or a list of values to draw from.
    n_iter : int, default=10
        Number of candidates.
    scoring, n_jobs, refit, cv, verbose, pre_dispatch
        See `DistributedGridSearchCV`.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws.  The same seed draws the same candidates as scikit-learn.
    error_score, return_train_score, halving
        See `DistributedGridSearchCV`.

    Attributes
    ----------
    cv_results_, best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, \
            refit_time_, multimetric_
        See `DistributedGridSearchCV`.

    See Also
    --------
    DistributedGridSearchCV, sklearn.model_selection.RandomizedSearchCV

    Examples
    --------
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_diabetes
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.model_selection import DistributedRandomizedSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = DistributedRandomizedSearchCV(
    ...     DistributedGDRegressor(), {"alpha": loguniform(1e-6, 1)}, random_state=0
    ... )
    >>> search.fit(X, y).cv_results_["mean_test_score"].shape
    (10,)
    """

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: int | np.random.RandomState | None = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        halving: float | None = None,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.halving = halving

    def _candidates(self) -> list[dict[str, Any]]:
        return list(
            ParameterSampler(self.param_distributions, self.n_iter, random_state=self.random_state)
        )
