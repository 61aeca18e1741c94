"""Fitted scikit-learn estimators that predict what ours predict.

What comes out is plain scikit-learn with plain NumPy attributes, so that whatever reads such
estimators (ONNX and skops converters, model servers) takes them, where this package is not
installed, too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted


def to_sklearn(estimator: Any) -> Any:
    """Return a fitted estimator, with every part of this package turned into scikit-learn's.

    Parameters
    ----------
    estimator : estimator
        Fitted: an estimator of this package, or one of scikit-learn's composites that holds such
        estimators, like a pipeline or a column transformer.  For a search, pass its
        ``best_estimator_``.

    Returns
    -------
    model : estimator
        A copy that makes the same predictions and does not need this package.

    Raises
    ------
    NotFittedError
        If an estimator has not been fitted.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from dask_dml import DistributedGDRegressor, to_sklearn
    >>> from dask_dml.preprocessing import DistributedMinMaxScaler
    >>> model = make_pipeline(DistributedMinMaxScaler(), DistributedGDRegressor(alpha=0.01))
    >>> to_sklearn(model.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]))
    Pipeline(steps=[('distributedminmaxscaler', MinMaxScaler()),
                    ('distributedgdregressor', Ridge(alpha=0.03))])
    """
    check_is_fitted(estimator)
    return plain(estimator)


def plain(value: Any) -> Any:
    """Return a copy of anything, in which estimators of this package are scikit-learn's."""
    if isinstance(value, type):
        return value
    # Of the class: a frozen estimator has all methods of the one inside.
    if hasattr(type(value), "to_sklearn") and is_fitted(value):
        return value.to_sklearn()
    if hasattr(type(value), "like_sklearn"):
        return value.like_sklearn()
    if isinstance(value, BaseEstimator):
        return _plain_composite(value)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(plain(part) for part in value)
    if type(value) is dict:
        return {key: plain(part) for key, part in value.items()}
    return copy.deepcopy(value)


def _plain_composite(estimator: Any) -> Any:
    made = copy.copy(estimator)
    parts = {name: plain(part) for name, part in vars(estimator).items()}
    for name, part in parts.items():
        # What was given, and fitted as a copy: the fitted one says which class stands for it.
        if hasattr(type(part), "to_sklearn") and f"{name}_" in parts:
            parts[name] = clone(parts[f"{name}_"])
    vars(made).update(parts)
    return made


def is_fitted(estimator: Any) -> bool:
    """Whether an estimator has been fitted."""
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def transfer(source: Any, target: Any, **attributes: Any) -> Any:
    """Make a scikit-learn estimator a fitted one.

    Parameters
    ----------
    source : fitted estimator
        Whose features the target gets.
    target : estimator
        Not fitted yet.
    **attributes : object
        Fitted attributes; arrays are copied, so that the two share nothing.

    Returns
    -------
    target : estimator
        The same object.
    """
    names = getattr(source, "feature_names_in_", None)
    for name, value in {
        **attributes,
        "n_features_in_": source.n_features_in_,
        **({} if names is None else {"feature_names_in_": names}),
    }.items():
        setattr(target, name, value.copy() if isinstance(value, np.ndarray) else value)
    return target


def linear_model(source: Any, weight: float) -> Any:
    """Return the scikit-learn regressor whose problem a GD regressor has solved.

    Parameters
    ----------
    source : DistributedGDRegressor
        Fitted.
    weight : float
        Sum of the sample weights of the fit.

    Returns
    -------
    model : LinearRegression, Ridge, Lasso, ElasticNet, QuantileRegressor, SGDRegressor or \
            MultiOutputRegressor
        Fitted.
    """
    if source.loss == "quantile":
        return _quantile_regressor(source)
    if source.loss != "squared_error":
        names = ("loss", "penalty", "alpha", "l1_ratio", "epsilon", "fit_intercept")
        return sgd_regressor(source, {name: getattr(source, name) for name in names})
    model = _squared_error_model(source, weight).set_params(fit_intercept=source.fit_intercept)
    # A converter to ONNX asks a number for its shape: NumPy's has one, Python's has not.
    intercept = np.asarray(source.intercept_)[()]
    return transfer(source, model, coef_=source.coef_, intercept_=intercept, n_iter_=source.n_iter_)


def _squared_error_model(source: Any, weight: float) -> Any:
    from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

    l1_ratio = {"l1": 1.0, "elasticnet": source.l1_ratio}.get(source.penalty, 0.0)
    if source.penalty is None or source.alpha == 0.0:
        return LinearRegression()
    if l1_ratio == 0.0:
        # Ridge penalises the sum of the losses, not their mean.
        return Ridge(alpha=source.alpha * weight)
    if l1_ratio == 1.0:
        return Lasso(alpha=source.alpha)
    return ElasticNet(alpha=source.alpha, l1_ratio=l1_ratio)


def _quantile_regressor(source: Any) -> Any:
    from sklearn.linear_model import QuantileRegressor

    share = {"l1": 1.0, "elasticnet": source.l1_ratio}.get(source.penalty, 0.0)
    parameters = {
        "quantile": source.quantile,
        "alpha": share * source.alpha,
        "fit_intercept": source.fit_intercept,
    }
    fitted = [
        transfer(
            source, QuantileRegressor(**parameters), coef_=coef, intercept_=intercept,
            n_iter_=source.n_iter_,
        )
        for coef, intercept in _outputs(source)
    ]  # fmt: skip
    return _together(source, fitted, QuantileRegressor(**parameters))


def sgd_regressor(source: Any, parameters: Mapping[str, Any]) -> Any:
    """Return an `SGDRegressor`, or one for each output.

    Parameters
    ----------
    source : regressor
        Fitted.
    parameters : mapping of str to object
        Of the `SGDRegressor`.

    Returns
    -------
    model : SGDRegressor or MultiOutputRegressor
        Fitted.
    """
    from sklearn.linear_model import SGDRegressor

    fitted = [
        transfer(
            source,
            SGDRegressor(**parameters),
            coef_=coef,
            intercept_=np.array([intercept]),
            n_iter_=source.n_iter_,
            t_=float(getattr(source, "t_", 1.0)),
        )
        for coef, intercept in _outputs(source)
    ]
    return _together(source, fitted, SGDRegressor(**parameters))


def _outputs(source: Any) -> Iterator[tuple[np.ndarray, np.float64]]:
    """Yield coefficients and intercept of each output."""
    return zip(np.atleast_2d(source.coef_), np.atleast_1d(source.intercept_), strict=True)


def _together(source: Any, fitted: list[Any], template: Any) -> Any:
    """Return the model of a single output, or one that holds those of all outputs."""
    from sklearn.multioutput import MultiOutputRegressor

    if source.coef_.ndim == 1:
        return fitted[0]
    return transfer(source, MultiOutputRegressor(template), estimators_=fitted)
