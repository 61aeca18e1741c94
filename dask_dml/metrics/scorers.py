"""Scorers for searches and cross-validation, of the metrics of this package."""

from __future__ import annotations

from typing import Any

from sklearn.metrics import make_scorer

from dask_dml.metrics import classification, losses, regression

_ERRORS = (
    "mean_squared_error",
    "root_mean_squared_error",
    "mean_absolute_error",
    "max_error",
)
_AVERAGED = ("precision", "recall", "f1")
_DECISIONS = ("roc_auc", "average_precision")


def get_scorer(scoring: str) -> Any:
    """Return the scorer with one of scikit-learn's names, computed by a metric of this package.

    Parameters
    ----------
    scoring : str
        The name: ``"r2"``, ``"neg_mean_squared_error"``, ``"neg_root_mean_squared_error"``,
        ``"neg_mean_absolute_error"``, ``"neg_max_error"``, ``"accuracy"``,
        ``"balanced_accuracy"``, ``"roc_auc"``, ``"average_precision"``, ``"neg_hinge_loss"``,
        ``"precision"``, ``"recall"`` or ``"f1"``.  The last three may end in ``"_macro"``,
        ``"_micro"`` or ``"_weighted"``.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)``, for ``scoring`` of searches and of `cross_validate`.  For a
        Dask collection it takes one pass over the predictions.

    Raises
    ------
    ValueError
        If there is no scorer of that name.

    Examples
    --------
    >>> import dask.array as da
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.metrics import get_scorer
    >>> X = da.arange(6.0, chunks=2).reshape(-1, 1)
    >>> model = DistributedGDRegressor().fit(X, X[:, 0])
    >>> get_scorer("r2")(model, X, X[:, 0])
    1.0
    """
    scorers = _scorers()
    if scoring not in scorers:
        raise ValueError(
            f"{scoring!r} is not a valid scoring value. Valid options are {sorted(scorers)}."
        )
    return scorers[scoring]


def _scorers() -> dict[str, Any]:
    made = {"r2": make_scorer(regression.r2_score)}
    for name in _ERRORS:
        metric = getattr(regression, name)
        made[f"neg_{name}"] = make_scorer(metric, greater_is_better=False)
    for name in ("accuracy", "balanced_accuracy"):
        made[name] = make_scorer(getattr(classification, f"{name}_score"))
    for name in _AVERAGED:
        metric = getattr(classification, f"{name}_score")
        made[name] = make_scorer(metric, average="binary")
        for average in ("macro", "micro", "weighted"):
            made[f"{name}_{average}"] = make_scorer(metric, average=average)
    for name in _DECISIONS:
        metric = getattr(classification, f"{name}_score")
        made[name] = make_scorer(metric, response_method="decision_function")
    made["neg_hinge_loss"] = make_scorer(
        losses.hinge_loss, greater_is_better=False, response_method="decision_function"
    )
    return made
