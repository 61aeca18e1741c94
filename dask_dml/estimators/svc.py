"""Distributed linear support vector machines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from dask_dml.estimators.base import LinearEstimator
from dask_dml.estimators.checkpoint import CHECKPOINT, Checkpoint, open_recorded
from dask_dml.estimators.classifier import LinearClassifierMixin
from dask_dml.estimators.dual_variables import DualVariablesMixin
from dask_dml.estimators.explain import Method
from dask_dml.estimators.export import transfer
from dask_dml.estimators.monitor import (
    FitMonitor,
    stopped,
    watching,
    with_callbacks,
)
from dask_dml.estimators.parameters import (
    BOOLEAN,
    COUNT,
    NON_NEGATIVE,
    NONE,
    POSITIVE,
    RANDOM_STATE,
    VERBOSE,
    Constraint,
    Kind,
    Options,
)
from dask_dml.input.hints import hint_at_gathered
from dask_dml.input.kinds import is_dask
from dask_dml.input.labels import class_weights, read_labels
from dask_dml.input.read import read_input

if TYPE_CHECKING:
    from dask_dml.rounds.plan import WantedShards


class DistributedLinearSVC(DualVariablesMixin, LinearClassifierMixin, LinearEstimator):
    """Linear support vector machine, fitted to a proven distance from the optimum.

    Minimises, for two classes with labels :math:`y_i = \\pm 1`, over :math:`w` and :math:`b`

    .. math::

        \\tfrac12 \\|w\\|^2 + \\tfrac12 (b / B)^2
        + C \\sum_i s_i \\max(0, 1 - y_i (x_i \\cdot w + b))^k

    with :math:`k = 1` for the hinge and 2 for the squared hinge, :math:`s_i` the sample weight
    times the class weight, and :math:`B` the `intercept_scaling`: the objective of
    `sklearn.svm.LinearSVC`.  With more classes there is one problem for each class against the
    rest, and all of them share every pass over the data.  The fit ends when the duality gap shows
    that the objective is within `tol` of the optimum.

    Parameters
    ----------
    penalty : {"l2", "l1"}, default="l2"
        Penalty of the coefficients.

        - ``"l2"``: half the sum of their squares.
        - ``"l1"``: the sum of their absolute values, which makes many of them zero.  Needs
          ``loss="squared_hinge"``.

    loss : {"squared_hinge", "hinge"}, default="squared_hinge"
        Loss of a row on the wrong side of its margin.

        - ``"squared_hinge"``: the square of its distance from the margin.
        - ``"hinge"``: its distance from the margin.

    dual : "auto" or bool, default="auto"
        Has no effect, and is accepted because `LinearSVC` has it.  There it chooses between two
        optimisation problems with the same solution.  Here `solver` chooses the method.
    tol : float, default=1e-4
        The fit stops when the objective is proven to be within this distance of the optimum,
        relative to a lower bound of the optimum.
    C : float, default=1.0
        Weight of the loss.  The smaller it is, the stronger the penalty.
    multi_class : {"ovr"}, default="ovr"
        ``"ovr"``: one class against the rest.  `LinearSVC`'s ``"crammer_singer"`` is an error.
    fit_intercept : bool, default=True
        Whether to fit an intercept.
    intercept_scaling : float or None, default=1.0
        The intercept is the coefficient of a constant column of this value, times the value.  That
        coefficient is penalised like the others.  None leaves the intercept free of the penalty.
    class_weight : mapping of class to float, "balanced" or None, default=None
        What C is multiplied by for each class.  ``"balanced"`` takes the inverse of the total
        weight of each class, up to a factor.  None multiplies by one.
    verbose : int, default=0
        Whether to print a line per round.  0 prints nothing.
    random_state : int, RandomState instance or None, default=None
        Seed of the subsample that a fit of much data starts from, and of the order in which
        ``solver="dual"`` visits rows.  None stands for a fixed seed.
    max_iter : int, default=1000
        Largest number of iterations.
    solver : {"auto", "newton", "dual"}, default="auto"
        How the optimum is found.

        - ``"newton"``: every pass gathers a gradient and a Hessian, or, with many columns, products
          of the Hessian with vectors.
        - ``"dual"``: every node finds the support vectors among its own rows.  The nodes exchange
          their effect on the coefficients.
        - ``"auto"``: newton for an L1 penalty, and for the squared hinge except on few rows of many
          columns.  For the hinge it begins with dual if X has at most 200,000 entries, at most
          10 rows for each column, or more than 2000 columns.  Otherwise (and with a free intercept,
          except on few rows of many columns) it begins with newton.  If one is slow, the other
          takes over.

    n_shards : int, "blocks" or None, default=None
        Number of nodes.

        - ``"blocks"``: every non-empty chunk is a node.
        - None: one node per thread of this process, or one to four per worker thread of a cluster.
          These hold at least 32 MiB each, and workers that join later can take some of them over.
          With ``solver="dual"`` there is always one per thread.

    warm_start : bool, default=False
        Whether to start from the coefficients of the last fit.
    n_jobs : int or None, default=None
        Number of threads for data in memory.  None means all cores, or one inside a Dask task.
    max_time : float or None, default=None
        Seconds after which no further iteration begins.  None sets no limit.
    checkpoint : str, os.PathLike, Checkpoint or None, default=None
        A folder, or a URL that fsspec can open, in which `fit` saves its progress every minute.
        If the process ends, the same call in another process resumes from there.  The folder is
        deleted when the fit is complete, and kept if `max_time` ended it.  A `Checkpoint` sets
        how often progress is saved.  None saves nothing.  See :doc:`/guide/reliability`.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Coefficients, float64.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    n_iter_ : int
        Number of iterations; the largest among the problems.
    n_rounds_ : int
        Number of passes over the data.
    engine_ : {"memory", "cluster", "streaming"}
        Where the rows were.

        - ``"memory"``: in this process.
        - ``"cluster"``: on the workers of a cluster.
        - ``"streaming"``: in neither, because they did not fit; every pass read them again.

    n_recoveries_ : int
        Number of losses of workers that the fit recovered from.
    objective_ : float
        Objective reached, summed over the problems.
    duality_gap_ : float
        Relative duality gap reached, the largest among the problems.  No coefficients have an
        objective that is smaller by more than this share of the optimum.
    n_support_ : ndarray of shape (n_classes,)
        Number of rows of each class that are support vectors of some problem.
    loss_curve_ : list of float
        Objective at the start and after every iteration, summed over the problems.
    converged_ : bool
        Whether `tol` was met.
    solver_ : str
        The solver that was used.  If there were several, the last one.
    history_ : dict of str to list
        Four lists with an entry for every round: ``"n_rounds"`` (passes so far), ``"seconds"``,
        ``"objective"`` and ``"relative_gap"``; see `dask_dml.display.ConvergenceDisplay`.
    fit_seconds_ : float
        Seconds that the fit took.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the features, where X had string names.

    See Also
    --------
    sklearn.svm.LinearSVC

    Notes
    -----
    As in `LinearSVC`, the weight of a class applies to the problem of that class against the rest,
    and not where its rows are among the rest.  Sources of the methods: modified finite Newton after
    Keerthi and DeCoste (2005), with a rounded hinge after Chapelle (2007); dual coordinate descent
    after Hsieh, Chang, Lin, Keerthi and Sundararajan (2008), distributed after Lee and Roth (2015)
    with an exact line search.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedLinearSVC
    >>> X = da.arange(20, chunks=8).reshape(10, 2) / 10.0
    >>> y = X[:, 0] > 0.9
    >>> model = DistributedLinearSVC(C=100.0).fit(X, y)
    >>> model.predict(X).compute()
    array([False, False, False, False, False,  True,  True,  True,  True, True])
    >>> model.duality_gap_ <= 1e-4
    True
    """  # noqa: D301 - types that go on in the next line need backslashes, too

    _constraints: ClassVar[Mapping[str, tuple[Constraint, ...]]] = {
        "penalty": (Options(("l2", "l1")),),
        "loss": (Options(("squared_hinge", "hinge")),),
        "dual": (BOOLEAN, Options(("auto",))),
        "tol": (NON_NEGATIVE,),
        "C": (POSITIVE,),
        "multi_class": (Options(("ovr", "crammer_singer")),),
        "fit_intercept": (BOOLEAN,),
        "intercept_scaling": (POSITIVE, NONE),
        "class_weight": (Kind((Mapping,), "a mapping"), Options(("balanced", None))),
        "verbose": (VERBOSE,),
        "random_state": (RANDOM_STATE,),
        "max_iter": (COUNT,),
        "solver": (Options(("auto", "newton", "dual")),),
        "n_shards": (COUNT, Options(("blocks", None))),
        "warm_start": (BOOLEAN,),
        "n_jobs": (Kind((Integral,), "an int"), NONE),
        "max_time": (POSITIVE, NONE),
        "checkpoint": (CHECKPOINT,),
    }

    n_iter_: int
    history_: dict[str, list[float]]
    fit_seconds_: float
    objective_: float
    duality_gap_: float
    n_support_: np.ndarray
    loss_curve_: list[float]
    converged_: bool
    solver_: str

    def __init__(
        self,
        penalty: Literal["l2", "l1"] = "l2",
        loss: Literal["squared_hinge", "hinge"] = "squared_hinge",
        *,
        dual: Literal["auto"] | bool = "auto",
        tol: float = 1e-4,
        C: float = 1.0,
        multi_class: Literal["ovr", "crammer_singer"] = "ovr",
        fit_intercept: bool = True,
        intercept_scaling: float | None = 1.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        max_iter: int = 1000,
        solver: Literal["auto", "newton", "dual"] = "auto",
        n_shards: int | Literal["blocks"] | None = None,
        warm_start: bool = False,
        n_jobs: int | None = None,
        max_time: float | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.dual = dual
        self.tol = tol
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.n_shards = n_shards
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.max_time = max_time
        self.checkpoint = checkpoint

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> DistributedLinearSVC:
        """Fit the coefficients.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame, dask array or dask DataFrame of shape \
                (n_samples, n_features)
            Training data.  A Dask collection is placed on the workers of the current client and
            visited there; without a client it is computed into this process if it fits.
        y : array-like or Dask collection of shape (n_samples,)
            Classes: numbers, booleans, strings or categories.  Need not be chunked like X.  If the
            classes of a Dask collection are not numbers, finding them takes one more pass over y.
        sample_weight : array-like, float or Dask collection of shape (n_samples,), default=None
            Non-negative weights of the rows, by which C is multiplied.  None gives each row a
            weight of one.

        Returns
        -------
        self : DistributedLinearSVC
            The fitted estimator; unchanged if an error is raised.

        Raises
        ------
        ValueError
            If a parameter, X, y or the weights are invalid: the message names the remedy.
        TypeError
            If a parameter or a column has the wrong type.
        """
        self._check()
        # Numba is loaded at the first fit: importing the package stays quick.
        monitor = FitMonitor(self, X, y, sample_weight)
        with self._unchanged_on_error():
            deadline = self._deadline(self.max_time)
            hint_at_gathered(X, y)
            labels = read_labels(y, in_memory=not is_dask(X))
            chunks = read_input(self, X, labels.y, sample_weight)
            start = [vars(self).get(name) for name in ("coef_", "intercept_") if self.warm_start]
            with open_recorded(self, chunks, deadline, *start) as (rounds, random_state):
                self._fit_rounds(rounds, chunks, deadline, labels, random_state, monitor)
        monitor.end()
        return self

    def _wanted_shards(self) -> WantedShards:
        """Return more nodes than threads where they are not what the method works by."""
        several = self.n_shards is None and self.solver != "dual"
        return "several" if several else self.n_shards

    def _fit_rounds(
        self,
        rounds: Any,
        chunks: Any,
        deadline: float,
        labels: Any,
        random_state: np.random.RandomState | None = None,
        monitor: FitMonitor | None = None,
        leader: DistributedLinearSVC | None = None,
    ) -> None:
        """Fit rows that are placed already; begin where a fit of almost the same rows has ended."""
        from dask_dml.passes.margins import class_sums
        from dask_dml.solvers.margin_choose import solve

        before = vars(self).copy()
        random_state = random_state or check_random_state(self.random_state)
        with watching(monitor, rounds, chunks, _coefficients):
            found = rounds.map_reduce(class_sums)
            self.classes_ = labels.decode(found.classes)
            task = self._task(chunks.n_features, found, deadline, before, random_state, monitor)
            if leader is not None and np.array_equal(leader.classes_, self.classes_):
                task = replace(task, **leader._lead())
            with self._driver_threads(chunks.n_features):
                solution = solve(rounds, task)
        self._set_rounds(rounds)
        self._set_solution(solution, warn=not stopped(monitor))

    def _check(self) -> None:
        self._check_parameters()
        if self.penalty == "l1" and self.loss == "hinge":
            raise ValueError(
                "Unsupported set of arguments: The combination of penalty='l1' and loss='hinge' "
                "is not supported; use loss='squared_hinge' with penalty='l1'."
            )
        if self.multi_class == "crammer_singer":
            raise ValueError(
                "multi_class='crammer_singer' is not supported; use multi_class='ovr', which "
                "separates each class from the rest."
            )

    def _task(
        self,
        n_features: int,
        found: Any,
        deadline: float,
        before: Mapping[str, Any],
        random_state: np.random.RandomState,
        monitor: FitMonitor | None = None,
    ) -> Any:
        from dask_dml.solvers.base import Limits
        from dask_dml.solvers.margin_task import Task

        if not found.weight.sum() > 0.0:
            raise ValueError(
                "The sample weights sum to zero: there is nothing to fit. Give at least one row a "
                "positive sample_weight."
            )
        if self.intercept_scaling is None and self.fit_intercept and (found.weight > 0).sum() < 2:
            raise ValueError(
                "Only one class has rows of positive weight, and an unpenalised intercept then has "
                "nothing to separate. Set intercept_scaling=1.0, or look at sample_weight."
            )
        weights = class_weights(self.class_weight, self.classes_, found.weight)
        scaling = np.inf if self.intercept_scaling is None else float(self.intercept_scaling)
        coef, intercept = self._start(n_features, before)
        seed = 0
        if self.random_state is not None:
            seed = int(random_state.randint(2**31 - 1))
        report = self._lines(monitor)
        return Task(
            labels=found.classes,
            rows=found.rows,
            cost=self.C * weights,
            rest_cost=float(self.C),
            squared=self.loss == "squared_hinge",
            l1=self.penalty == "l1",
            scaling=scaling if self.fit_intercept else 0.0,
            n_features=n_features,
            entries=found.entries,
            weight=float(found.weight.sum()),
            sparse=found.sparse,
            open_local=self._open_local,
            solver=self.solver,
            limits=Limits(self.max_iter, self.tol, deadline, report=report, observer=monitor),
            seed=seed,
            coef=coef,
            intercept=intercept,
        )

    def _start(
        self, n_features: int, before: Mapping[str, Any]
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        if not (self.warm_start and "coef_" in before):
            return None, None
        n_problems = 1 if len(self.classes_) == 2 else len(self.classes_)
        if before["coef_"].shape != (n_problems, n_features) or not np.array_equal(
            before["classes_"], self.classes_
        ):
            raise ValueError(
                f"warm_start=True starts from coef_ of shape {before['coef_'].shape} for the "
                f"classes {before['classes_'].tolist()}, but this fit has {n_features} feature(s) "
                f"and the classes {self.classes_.tolist()}. Set warm_start=False or fit a clone."
            )
        return self._model()[0], np.where(self.fit_intercept, before["intercept_"], 0.0)

    def _lead(self) -> dict[str, Any]:
        """Return where a fit of almost the same rows is to begin."""
        coef, intercept = self._model()
        width = None if self._duals is None else self._duals.width
        return {"coef": coef, "intercept": intercept, "width": width}

    def _codes(self, X: Any, y: Any) -> Any:
        return read_labels(y, in_memory=not is_dask(X)).y

    def _method(self, n_rows: float, chunks: Any) -> Method:
        from dask_dml.solvers.margin_choose import USUAL_PASSES, reason
        from dask_dml.solvers.margin_choose import choose_solver as choose

        free = self.intercept_scaling is None
        entries = n_rows * chunks.n_features
        if not chunks.lazy:
            entries = float(sum(getattr(X, "nnz", np.size(X)) for X in chunks.X))
        asked: Any = SimpleNamespace(
            solver=self.solver,
            l1=self.penalty == "l1",
            squared=self.loss == "squared_hinge",
            scaling=np.inf if free and self.fit_intercept else 1.0,
            rows=np.array([n_rows]),
            n_features=chunks.n_features,
            entries=entries,
        )
        chosen = choose(asked)
        low, high = USUAL_PASSES[chosen, self.loss]
        why = reason(asked, chosen)
        squares = chosen == "newton" and chunks.n_features <= 2000
        return Method(chosen, why, (low, min(high, self.max_iter + low)), squares=squares)

    def _set_solution(self, solution: Any, *, warn: bool) -> None:
        outcomes = solution.outcomes
        self.coef_, self.intercept_ = solution.coef, solution.intercept
        self.solver_ = solution.solver
        self.n_iter_ = max(1, *(outcome.n_iter for outcome in outcomes))
        self.converged_ = all(outcome.converged for outcome in outcomes)
        self.duality_gap_ = max(outcome.relative_gap for outcome in outcomes)
        self.objective_ = float(sum(outcome.objective for outcome in outcomes))
        self.n_support_ = solution.n_support
        longest = max(len(outcome.curve) for outcome in outcomes)
        curves = [o.curve + o.curve[-1:] * (longest - len(o.curve)) for o in outcomes]
        self.loss_curve_ = [float(sum(values)) for values in zip(*curves, strict=True)]
        self._duals = None if solution.interior else solution.duals
        self._solves_again = solution.again
        if not self.converged_ and warn:
            remedy = "Increase max_iter (or max_time), scale the columns, or take a smaller C"
            if self.solver_ == "dual":
                remedy += ", or use solver='newton'"
            self._warn_not_converged(
                f"the relative duality gap is {self.duality_gap_:.2e} after {self.n_iter_} "
                f"iterations (tol={self.tol:g})",
                f"{remedy}.",
            )

    def to_sklearn(self) -> Any:
        """Return a fitted `sklearn.svm.LinearSVC` with the same parameters and coefficients.

        Returns
        -------
        model : LinearSVC
            Makes the same predictions.  With ``intercept_scaling=None`` its own ``fit`` would
            penalise the intercept, which this estimator leaves free.

        Raises
        ------
        NotFittedError
            If the estimator has not been fitted.
        """
        check_is_fitted(self)
        from sklearn.svm import LinearSVC

        shared = ("penalty", "loss", "tol", "C", "multi_class", "fit_intercept", "class_weight")
        model = LinearSVC(**{name: getattr(self, name) for name in shared})
        if self.intercept_scaling is not None:
            model.set_params(intercept_scaling=self.intercept_scaling)
        return transfer(
            self,
            model,
            coef_=self.coef_,
            intercept_=self.intercept_,
            classes_=self.classes_,
            n_iter_=self.n_iter_,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _coefficients(coef: np.ndarray, intercept: np.ndarray) -> dict[str, Any]:
    return {"coef_": coef, "intercept_": intercept}
