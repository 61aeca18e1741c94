"""Real tables: nobody scaled the columns, and the answers are scikit-learn's."""

import os
from pathlib import Path

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import reference
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, Ridge

from dask_dml import DistributedGDRegressor

FOLDER = os.environ.get("DASK_DML_DATA")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="DASK_DML_DATA does not point at the folder of real data"
)


def houses():
    table = pd.read_csv(Path(FOLDER) / "california_housing" / "housing.csv").dropna()
    table = pd.get_dummies(table, columns=["ocean_proximity"], dtype=float)
    return table.drop(columns="median_house_value"), table["median_house_value"] / 1000


def flights():
    table = pd.read_parquet(Path(FOLDER) / "nycflights13" / "flights.parquet").dropna()
    columns = ["month", "day", "dep_time", "dep_delay", "air_time", "distance", "hour"]
    return table[columns].astype(float), table["arr_delay"].astype(float)


def air():
    files = sorted((Path(FOLDER) / "prsa_beijing_air").glob("*.csv"))[:3]
    table = pd.concat([pd.read_csv(file, na_values=[" "]) for file in files]).dropna()
    columns = ["year", "month", "hour", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN",
               "WSPM"]  # fmt: skip
    return table[columns].astype(float).iloc[::4], table["PM2.5"].astype(float).iloc[::4]


TABLES = {"houses": houses, "flights": flights, "air": air}


@pytest.fixture(scope="module", params=TABLES)
def table(request):
    return TABLES[request.param]()


def values(table):
    X, y = table
    return X.to_numpy(), y.to_numpy()


def assert_reaches(model, other, table, **params):
    X, y = values(table)
    best = reference.objective(X, y, other.coef_, other.intercept_, **params)
    mine = reference.objective(X, y, model.coef_, model.intercept_, **params)
    assert mine <= best + 1e-8 * max(best, reference.floor(y))


def test_ridge_on_a_cluster(client, table):
    X, y = values(table)
    ridge = Ridge(1e-4 * len(y), solver="svd").fit(X, y)
    data = da.from_array(X, chunks=(len(X) // 5, -1))
    model = DistributedGDRegressor().fit(data, da.from_array(y, chunks=1000))
    assert_reaches(model, ridge, table)
    scale = X.std(axis=0)
    np.testing.assert_allclose(
        model.coef_ * scale, ridge.coef_ * scale, atol=1e-5 * np.abs(ridge.coef_ * scale).max()
    )


def test_frames_of_real_columns(client, table):
    X, y = table
    frame = dd.from_pandas(X.reset_index(drop=True), npartitions=4)
    model = DistributedGDRegressor().fit(frame, dd.from_pandas(y.reset_index(drop=True), 3))
    expected = DistributedGDRegressor().fit(X, y)
    scale = X.std(axis=0).to_numpy()
    np.testing.assert_allclose(
        model.coef_ * scale,
        expected.coef_ * scale,
        atol=1e-8 * np.abs(expected.coef_ * scale).max(),
    )
    np.testing.assert_array_equal(model.feature_names_in_, X.columns)


@pytest.mark.parametrize("penalty", ["l1", "elasticnet", None])
def test_the_other_squared_error_models(table, penalty):
    X, y = values(table)
    other = {
        "l1": Lasso(alpha=0.01, tol=1e-10, max_iter=10**5, precompute=True),
        "elasticnet": ElasticNet(
            alpha=0.01, l1_ratio=0.15, tol=1e-10, max_iter=10**5, precompute=True
        ),
        None: LinearRegression(),
    }[penalty]
    # scikit-learn finds the optimum of scaled columns only: its own scale is put into the penalty.
    if penalty is not None:
        mean, scale = X.mean(axis=0), X.std(axis=0)
        X = (X - mean) / scale
    model = DistributedGDRegressor(penalty=penalty, alpha=0.01).fit(X, y)
    assert_reaches(model, other.fit(X, y), (pd.DataFrame(X), pd.Series(y)),
                   penalty=penalty, alpha=0.01)  # fmt: skip


@pytest.mark.parametrize("loss", ["huber", "epsilon_insensitive", "squared_epsilon_insensitive"])
@pytest.mark.parametrize("penalty", ["l2", None])
def test_robust_losses_converge_on_unscaled_columns(table, loss, penalty):
    """Warnings are errors here."""
    X, y = values(table)
    epsilon = {"huber": 10.0}.get(loss, 1.0)
    model = DistributedGDRegressor(loss, penalty=penalty, epsilon=epsilon).fit(X, y)
    assert model.converged_
    assert model.n_rounds_ < 150
    residual = y - X @ model.coef_ - model.intercept_
    slopes = reference.loss_slopes(residual, loss, epsilon)
    if loss != "epsilon_insensitive":
        gradient = (X - X.mean(axis=0)).T @ slopes / len(y)
        gradient -= 1e-4 * model.coef_ * (penalty is not None)
        size = X.std(axis=0) * np.abs(slopes).mean()
        assert np.abs(gradient / size).max() < 1e-3
