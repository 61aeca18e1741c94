"""Coefficients by name, also through pipelines."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.inspection import coefficients
from dask_dml.preprocessing import DistributedMinMaxScaler, DistributedOneHotEncoder

rng = np.random.default_rng(0)
FRAME = pd.DataFrame({"a": rng.random(60), "b": rng.random(60), "wind": list("NES") * 20})


def test_largest_first_with_the_names_of_a_frame():
    X = FRAME[["a", "b"]]
    model = DistributedGDRegressor(alpha=0.0).fit(X, X["a"] - 3.0 * X["b"])
    table = coefficients(model)
    assert table.index.tolist() == ["b", "a"]
    assert table.index.name == "feature"
    np.testing.assert_allclose(table["coefficient"], [-3.0, 1.0])
    unnamed = coefficients(model.fit(X.to_numpy(), X["a"]))
    assert unnamed.index.tolist() == ["x0", "x1"]


@pytest.mark.parametrize("convert", [lambda model: model, to_sklearn])
def test_names_go_through_a_pipeline(convert):
    lazy = dd.from_pandas(FRAME, npartitions=3)
    columns = make_distributed_column_transformer(
        (DistributedMinMaxScaler(), ["a", "b"]), (DistributedOneHotEncoder(), ["wind"])
    )
    target = FRAME["a"] + (FRAME["wind"] == "E") * 9.0
    model = convert(make_pipeline(columns, DistributedGDRegressor()).fit(lazy, target))
    table = coefficients(model)
    assert set(table.index) == set(model[0].get_feature_names_out())
    assert table.index[0] == "distributedonehotencoder__wind_E"
    assert table["coefficient"].iloc[0] > 4
    assert (np.diff(table["coefficient"].abs()) <= 0).all()


def test_one_column_for_each_class_or_output():
    X = FRAME[["a", "b"]]
    table = coefficients(DistributedLinearSVC().fit(X, FRAME["wind"]))
    assert table.columns.tolist() == ["E", "N", "S"]
    both = coefficients(DistributedGDRegressor().fit(X, X.to_numpy()))
    assert both.columns.tolist() == [0, 1]


def test_what_has_no_coefficients_is_said():
    with pytest.raises(NotFittedError):
        coefficients(DistributedGDRegressor())
    with pytest.raises(ValueError, match="has no coef_"):
        coefficients(DistributedMinMaxScaler().fit(FRAME[["a"]]))
    nameless = make_pipeline(FunctionTransformer(), DistributedGDRegressor())
    table = coefficients(nameless.fit(FRAME[["a", "b"]], FRAME["a"]))
    assert set(table.index) == {"a", "b"}
