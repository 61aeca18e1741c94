"""Linear support vector machines whose C is chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.base import LinearEstimator
from dask_dml.estimators.classifier import LinearClassifierMixin
from dask_dml.estimators.export import transfer
from dask_dml.estimators.monitor import with_callbacks
from dask_dml.estimators.parameters import (
    BOOLEAN,
    COUNT,
    NONE,
    POSITIVE,
    RANDOM_STATE,
    VERBOSE,
    Constraint,
    Interval,
    Kind,
    Options,
)
from dask_dml.estimators.svc import DistributedLinearSVC
from dask_dml.model_selection.scoring import Scoring
from dask_dml.model_selection.watch import SearchMonitor

_SEQUENCE = Kind((Sequence, np.ndarray), "an array-like")
#: Parameters that are those of `DistributedLinearSVC`.
_SHARED = (
    "penalty", "loss", "tol", "fit_intercept", "intercept_scaling", "class_weight", "random_state",
    "max_iter", "solver", "n_shards", "n_jobs",
)  # fmt: skip
_LEARNED = (
    "coef_", "intercept_", "classes_", "n_iter_", "converged_", "duality_gap_", "solver_",
    "n_features_in_", "feature_names_in_",
)  # fmt: skip


class DistributedLinearSVCCV(LinearClassifierMixin, LinearEstimator):
    """Linear support vector machine, with C chosen by cross-validation.

    Fits `DistributedLinearSVC` for every C on every training set.  All of these fits share their
    passes over the data.  One more pass computes the scores.

    Parameters
    ----------
    Cs : int or array-like of shape (n_Cs,), default=10
        Values of C to try.  An int is their number.  They are then evenly spaced on a logarithmic
        scale from 1e-4 to 1e4, as in `LogisticRegressionCV` of scikit-learn.
    penalty : {"l2", "l1"}, default="l2"
        Penalty of the coefficients.

        - ``"l2"``: half the sum of their squares.
        - ``"l1"``: the sum of their absolute values.  Needs ``loss="squared_hinge"``.

    loss : {"squared_hinge", "hinge"}, default="squared_hinge"
        Loss of a row on the wrong side of its margin.

        - ``"squared_hinge"``: the square of its distance from the margin.
        - ``"hinge"``: its distance from the margin.

    tol : float, default=1e-4
        Distance from the optimum, relative to a lower bound of it, at which each fit stops.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    intercept_scaling : float or None, default=1.0
        The intercept is the coefficient of a constant column of this value, times the value.  That
        coefficient is penalised like the others.  None leaves the intercept free of the penalty.
    class_weight : mapping of class to float, "balanced" or None, default=None
        What C is multiplied by for each class, as in `DistributedLinearSVC`.
    cv : int, cross-validation splitter, iterable of (train, test) or None, default=None
        How the rows are split.

        - int: that many folds that keep the shares of the classes, like
          `sklearn.model_selection.StratifiedKFold`.
        - None: five such folds.
        - A splitter, or an iterable of positions of training and test rows.

    scoring : str, callable or None, default=None
        Score to compare, as in `DistributedGridSearchCV`.  None stands for the accuracy.
    selection : {"min", "1se"}, default="min"
        Which C is chosen.

        - ``"min"``: the one with the best mean score.
        - ``"1se"``: the smallest C, which is the strongest penalty, whose mean score is within one
          standard error of the best.

    random_state : int, RandomState instance or None, default=None
        Seed of the fits, as in `DistributedLinearSVC`.  None stands for a fixed seed.
    max_iter : int, default=1000
        Largest number of iterations of each fit.
    solver : {"auto", "newton", "dual"}, default="auto"
        As in `DistributedLinearSVC`.
    n_shards : int, "blocks" or None, default=None
        As in `DistributedLinearSVC`.
    verbose : int, default=0
        Whether to print what was chosen.  0 prints nothing.
    n_jobs : int or None, default=None
        Number of threads for data in memory.  None means all cores, or one inside a Dask task.

    Attributes
    ----------
    C_ : float
        The C that was chosen.
    Cs_ : ndarray of shape (n_Cs,)
        The values of C that were tried, ascending.
    scores_path_ : ndarray of shape (n_Cs, n_folds)
        Scores on the test rows of each fold.
    dual_gaps_ : ndarray of shape (n_Cs, n_folds)
        Relative duality gaps of the fits, the largest among the classes.
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients for the chosen C, fitted to all rows.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    n_iter_ : int
        Number of iterations of the fit to all rows.
    converged_ : bool
        Whether the fit to all rows met `tol`.
    duality_gap_ : float
        Relative duality gap of the fit to all rows.
    solver_ : str
        The solver that was used for the fit to all rows.
    n_rounds_ : int
        Number of passes over the data of the whole search.
    engine_ : {"memory", "cluster", "streaming"}
        Where the rows were; see `DistributedLinearSVC`.
    n_recoveries_ : int
        Number of losses of workers that the search recovered from.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    DistributedLinearSVC, sklearn.linear_model.LogisticRegressionCV

    Notes
    -----
    The standard error of ``"1se"`` is that of the mean over the folds (Hastie, Tibshirani and
    Friedman, *The Elements of Statistical Learning*, 2009, section 7.10).

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedLinearSVCCV
    >>> X = da.random.default_rng(0).normal(size=(1000, 5), chunks=(250, 5))
    >>> model = DistributedLinearSVCCV(Cs=[1e-3, 0.1, 10.0], cv=3).fit(X, X[:, 0] > 0)
    >>> model.Cs_.shape, model.scores_path_.shape
    ((3,), (3, 3))
    """

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "Cs": (COUNT, _SEQUENCE),
        "cv": (Interval(Integral, 2), Kind((object,), "a splitter"), NONE),
        "selection": (Options(("min", "1se")),),
        "penalty": (Options(("l2", "l1")),),
        "loss": (Options(("squared_hinge", "hinge")),),
        "tol": (Interval(Real, 0.0),),
        "fit_intercept": (BOOLEAN,),
        "intercept_scaling": (POSITIVE, NONE),
        "random_state": (RANDOM_STATE,),
        "max_iter": (COUNT,),
        "solver": (Options(("auto", "newton", "dual")),),
        "n_shards": (COUNT, Options(("blocks", None))),
        "verbose": (VERBOSE,),
        "n_jobs": (Kind((Integral,), "an int"), NONE),
    }

    n_iter_: int
    converged_: bool
    duality_gap_: float
    solver_: str

    def __init__(
        self,
        *,
        Cs: int | Any = 10,
        penalty: Literal["l2", "l1"] = "l2",
        loss: Literal["squared_hinge", "hinge"] = "squared_hinge",
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float | None = 1.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        cv: Any = None,
        scoring: Any = None,
        selection: Literal["min", "1se"] = "min",
        random_state: int | np.random.RandomState | None = None,
        max_iter: int = 1000,
        solver: Literal["auto", "newton", "dual"] = "auto",
        n_shards: int | Literal["blocks"] | None = None,
        verbose: int = 0,
        n_jobs: int | None = None,
    ) -> None:
        self.Cs = Cs
        self.penalty = penalty
        self.loss = loss
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.cv = cv
        self.scoring = scoring
        self.selection = selection
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.n_shards = n_shards
        self.verbose = verbose
        self.n_jobs = n_jobs

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DistributedLinearSVCCV:
        """Choose C by cross-validation, and fit all rows with it.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Training data.
        y : array-like or Dask collection of shape (n_samples,)
            Classes.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows, in the fits and in the scores.

        Returns
        -------
        self : DistributedLinearSVCCV
            The fitted estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are invalid, or there are fewer rows of a class
            than folds.
        TypeError
            If a parameter or a column has the wrong type.
        """
        self._check_parameters()
        Cs = self._given_Cs()
        estimator = DistributedLinearSVC(**{name: getattr(self, name) for name in _SHARED})
        estimator._check()
        from dask_dml.model_selection.evaluation import Evaluation, Plan

        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        plan = Plan(
            Scoring.of(self.scoring, estimator), self.cv, classifier=True, split={}, fit=weights,
            score=weights, train=False, error_score="raise", routed=False,
        )  # fmt: skip
        monitor = SearchMonitor(self, X, y, sample_weight, 2)
        with (
            self._unchanged_on_error(),
            Evaluation(estimator, X, y, plan, monitor.after_round) as evaluation,
        ):
            with monitor.stage("search"):
                trials = evaluation.run([{"C": float(C)} for C in Cs])
            (name,) = trials[0][0].test
            self.Cs_ = Cs
            self.scores_path_ = np.array([[trial.test[name] for trial in row] for row in trials])
            self.dual_gaps_ = np.array([[m.duality_gap_ for m in row] for row in evaluation.fitted])
            self.C_ = float(Cs[self._choose(self.scores_path_)])
            with monitor.stage("refit"):
                best = evaluation.fit_all({"C": self.C_})
            for learned in _LEARNED:
                if hasattr(best, learned):
                    setattr(self, learned, getattr(best, learned))
            self._set_rounds(evaluation.rounds())
            report = self._report(self.verbose)
            if report is not None:
                report(f"C {self.C_:.6g}: mean score {self.scores_path_.mean(axis=1).max():.6g}")
        monitor.end()
        return self

    def _given_Cs(self) -> np.ndarray:
        if isinstance(self.Cs, Integral):
            return np.geomspace(1e-4, 1e4, int(self.Cs))
        Cs = np.asarray(self.Cs, dtype=np.float64)
        if Cs.ndim != 1 or not len(Cs) or not np.all(Cs > 0.0) or not np.isfinite(Cs).all():
            raise ValueError(
                "The 'Cs' parameter must be an int or a list of positive numbers. Got "
                f"{self.Cs!r} instead."
            )
        return np.sort(Cs)

    def _choose(self, scores: np.ndarray) -> int:
        means = scores.mean(axis=1)
        best = int(np.argmax(means))
        if self.selection == "min" or scores.shape[1] == 1:
            return best
        error = scores[best].std(ddof=1) / np.sqrt(scores.shape[1])
        return int(np.flatnonzero(means >= means[best] - error)[0])

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.svm.LinearSVC` with the C that was chosen.

        Returns
        -------
        model : LinearSVC
            Makes the same predictions.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        chosen = DistributedLinearSVC(**{name: getattr(self, name) for name in _SHARED}, C=self.C_)
        learned = {name: getattr(self, name) for name in _LEARNED[:4]}
        return transfer(self, chosen, **learned).to_sklearn()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
