"""Fitted scikit-learn estimators that predict what ours predict.

What comes out is plain scikit-learn with plain NumPy attributes, so that whatever reads such
estimators (ONNX and skops converters, model servers) takes them, where this package is not
installed, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


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
    model : LinearRegression, Ridge, Lasso, ElasticNet, SGDRegressor or MultiOutputRegressor
        Fitted.
    """
    if source.loss != "squared_error":
        names = ("loss", "penalty", "alpha", "l1_ratio", "epsilon", "fit_intercept")
        return sgd_regressor(source, {name: getattr(source, name) for name in names})
    model = _squared_error_model(source, weight).set_params(fit_intercept=source.fit_intercept)
    # A converter to ONNX asks a number for its shape: NumPy's has one, Python's has not.
    intercept = source.intercept_ if source.coef_.ndim == 2 else np.float64(source.intercept_)
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
    from sklearn.multioutput import MultiOutputRegressor

    fitted = [
        transfer(
            source,
            SGDRegressor(**parameters),
            coef_=coef,
            intercept_=np.array([intercept]),
            n_iter_=source.n_iter_,
            t_=float(getattr(source, "t_", 1.0)),
        )
        for coef, intercept in zip(
            np.atleast_2d(source.coef_), np.atleast_1d(source.intercept_), strict=True
        )
    ]
    if source.coef_.ndim == 1:
        return fitted[0]
    whole = MultiOutputRegressor(SGDRegressor(**parameters))
    return transfer(source, whole, estimators_=fitted)
