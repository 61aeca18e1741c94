"""Ending a fit that no longer gets better on rows that it does not see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dask_dml.estimators.monitor import ROUND
from dask_dml.estimators.parameters import (
    COUNT,
    NON_NEGATIVE,
    NONE,
    Constraint,
    Kind,
    check_parameters,
)
from dask_dml.estimators.regression import DistributedGDRegressor
from dask_dml.estimators.sgd import DistributedSGDRegressor
from dask_dml.estimators.svc import DistributedLinearSVC
from dask_dml.metrics import get_scorer


class Callables:
    """Anything that can be called; see `dask_dml.estimators.parameters.Constraint`."""

    def accepts(self, value: Any) -> bool:
        """Whether the value can be called."""
        return callable(value)

    def __str__(self) -> str:
        return "a callable"


_CONSTRAINTS: dict[str, tuple[Constraint, ...]] = {
    "scoring": (Kind((str,), "a str"), Callables(), NONE),
    "n_rounds_no_change": (COUNT,),
    "tol": (NON_NEGATIVE,),
    "every": (COUNT,),
}


_WITH_ROUNDS = (DistributedGDRegressor, DistributedSGDRegressor, DistributedLinearSVC)


class EarlyStopping:
    """End a fit when the score on validation rows no longer improves.

    Parameters
    ----------
    X, y : array-like, DataFrame or Dask collection
        Validation rows and their targets, in a form that `predict` and `score` of the estimator
        accept.  In a pipeline, they have to be transformed as for the last step.
    sample_weight : array-like or Dask collection of shape (n_samples,), default=None
        Weights of the validation rows in the score.
    scoring : str, callable or None, default=None
        The score; greater is better.

        - str: a name of `dask_dml.metrics.get_scorer`.
        - callable: called as ``scoring(estimator, X, y, sample_weight=...)``.
        - None: the estimator's own `score`.

    n_rounds_no_change : int, default=5
        The fit ends after this number of scores in a row without an improvement of the best by
        more than `tol`.
    tol : float, default=1e-3
        Smallest improvement that counts, in units of the score.
    every : int, default=1
        Number of rounds between two scores.  Each score of a Dask collection takes one pass over
        the validation rows.

    Attributes
    ----------
    scores_ : list of (int, float)
        For each score of the last fit, the number of passes over the training data and the score.
    stopped_ : bool
        Whether this callback ended the last fit.

    See Also
    --------
    dask_dml.DistributedSGDRegressor : Its `early_stopping` holds out rows of the data.

    Notes
    -----
    Set it on the estimator itself, also in a pipeline or a search:
    ``pipeline[-1].set_callbacks(stopping)``.  A pipeline or a search makes no rounds itself, so its
    fit raises a ``ValueError``.

    A fit that was ended keeps the coefficients of its last round, not those of the best score.  It
    has ``converged_ = False``, and gives no warning.

    Examples
    --------
    >>> import numpy as np
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.callbacks import EarlyStopping
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 3))
    >>> y = X @ [1.0, 2.0, 3.0] + rng.normal(size=300)
    >>> stopping = EarlyStopping(X[200:], y[200:], n_rounds_no_change=2)
    >>> model = DistributedGDRegressor("huber", solver="gd", tol=1e-12).set_callbacks(stopping)
    >>> model.fit(X[:200], y[:200]).converged_, stopping.stopped_
    (False, True)
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        scoring: str | Callable[..., float] | None = None,
        n_rounds_no_change: int = 5,
        tol: float = 1e-3,
        every: int = 1,
    ) -> None:
        self.X, self.y, self.sample_weight = X, y, sample_weight
        self.scoring = scoring
        self.n_rounds_no_change = n_rounds_no_change
        self.tol = tol
        self.every = every
        check_parameters(
            type(self).__name__, {name: getattr(self, name) for name in _CONSTRAINTS}, _CONSTRAINTS
        )
        self.scores_: list[tuple[int, float]] = []
        self.stopped_ = False
        # Of every fit that is running: a search may fit several copies side by side.
        self._runs: dict[int, _Run] = {}

    def setup(self, estimator: Any, context: Any) -> None:
        """Begin a fit.

        Raises
        ------
        ValueError
            If the estimator makes no rounds itself, as pipelines, searches and the estimators that
            choose a penalty.
        """
        if not isinstance(estimator, _WITH_ROUNDS):
            raise ValueError(
                f"EarlyStopping cannot end a fit of {type(estimator).__name__}, which makes no "
                "rounds itself: set it on the estimator inside, for example by "
                "pipeline[-1].set_callbacks(...)"
            )
        run = _Run()
        self._runs[id(estimator)] = run
        self.scores_, self.stopped_ = run.scores, False

    def teardown(self, estimator: Any, context: Any) -> None:
        """End a fit."""
        self._runs.pop(id(estimator), None)

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: rounds are scored when they end."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> bool:
        """Score a round; return whether the fit is to end."""
        if context.task_name != ROUND or fitted_estimator is None:
            return False
        run = self._runs[id(estimator)]
        run.n_rounds += 1
        if run.n_rounds % self.every:
            return False
        score = self._score(fitted_estimator)
        run.scores.append((fitted_estimator.n_rounds_, score))
        if not score <= run.best + self.tol:
            run.best, run.n_worse = score, 0
        else:
            run.n_worse += 1
        stop = run.n_worse >= self.n_rounds_no_change
        self.stopped_ |= stop and run.scores is self.scores_
        return stop

    def _score(self, estimator: Any) -> float:
        weight = {} if self.sample_weight is None else {"sample_weight": self.sample_weight}
        if self.scoring is None:
            return float(estimator.score(self.X, self.y, **weight))
        scorer = get_scorer(self.scoring) if isinstance(self.scoring, str) else self.scoring
        return float(scorer(estimator, self.X, self.y, **weight))


class _Run:
    def __init__(self) -> None:
        self.scores: list[tuple[int, float]] = []
        self.best = -math.inf
        self.n_worse = 0
        self.n_rounds = 0
