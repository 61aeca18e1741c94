"""Coefficients by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    import pandas as pd


def coefficients(model: Any) -> pd.DataFrame:
    """Return the coefficients of a linear model with the names of its features, largest first.

    Parameters
    ----------
    model : estimator
        A fitted estimator with ``coef_``, or a pipeline that ends in one.  For a pipeline, the
        names are those of the features that the last step receives.

    Returns
    -------
    table : pandas.DataFrame of shape (n_features, n_outputs)
        The index holds the names, or "x0", "x1", ... if there are none.  The column is
        "coefficient"; with several classes or outputs there is one for each.  Rows are sorted by
        their largest absolute value.

    Raises
    ------
    NotFittedError
        If the model has not been fitted.
    ValueError
        If the model has no ``coef_``.

    Examples
    --------
    >>> import pandas as pd
    >>> from dask_dml import DistributedGDRegressor
    >>> from dask_dml.inspection import coefficients
    >>> X = pd.DataFrame({"width": [1.0, 2.0, 3.0], "age": [1.0, 0.0, 1.0]})
    >>> model = DistributedGDRegressor(alpha=0.0).fit(X, X["width"] - 2 * X["age"])
    >>> coefficients(model).round(2)
             coefficient
    feature
    age             -2.0
    width            1.0
    """
    import pandas as pd

    check_is_fitted(model)
    last, names = model, getattr(model, "feature_names_in_", None)
    if isinstance(model, Pipeline):
        last = model[-1]
        names = _names_out(model, getattr(last, "feature_names_in_", None))
    if not hasattr(last, "coef_"):
        raise ValueError(
            f"{type(last).__name__} has no coef_. Hand over a fitted linear model, or a pipeline "
            "that ends in one."
        )
    coef = np.atleast_2d(last.coef_)
    if names is None:
        names = [f"x{number}" for number in range(coef.shape[1])]
    columns: Any = ["coefficient"]
    if len(coef) > 1:
        columns = getattr(last, "classes_", np.arange(len(coef)))
    table = pd.DataFrame(coef.T, index=pd.Index(names, name="feature"), columns=columns)
    order = np.argsort(-np.abs(coef).max(axis=0), kind="stable")
    return table.iloc[order]


def _names_out(pipeline: Pipeline, names: Any) -> Any:
    """Return the names of what the last step gets; those it has seen where no step knows any."""
    if len(pipeline) == 1:
        return names
    try:
        return pipeline[:-1].get_feature_names_out()
    except AttributeError:
        return names
