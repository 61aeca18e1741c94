"""What a number of passes is worth, next to scikit-learn's, and that no more are made."""

import os
import warnings
from functools import cache
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor

ALPHA = 1e-4
FOLDER = os.environ.get("DASK_DML_DATA")
EPSILON = {
    "squared_error": 0.1,
    "huber": 0.3,
    "epsilon_insensitive": 0.1,
    "squared_epsilon_insensitive": 0.1,
}


def generated():
    rng = np.random.default_rng(0)
    n, p = 20_000, 20
    rotation = np.linalg.qr(rng.standard_normal((p, p)))[0]
    X = rng.standard_normal((n, p)) * np.sqrt(np.geomspace(1.0, 1e-3, p)) @ rotation
    return X, X @ rng.standard_normal(p) + 0.2 * rng.standard_normal(n)


def houses():
    table = pd.read_csv(Path(FOLDER) / "california_housing" / "housing.csv").dropna()
    table = pd.get_dummies(table, columns=["ocean_proximity"], drop_first=True, dtype=float)
    return table.drop(columns="median_house_value"), table["median_house_value"] / 1e5


def flights():
    path = Path(FOLDER) / "nycflights13" / "flights.parquet"
    columns = ["month", "day", "dep_time", "dep_delay", "air_time", "distance", "hour"]
    table = pd.read_parquet(path, columns=[*columns, "arr_delay"]).dropna().iloc[::40]
    return table[columns], table["arr_delay"]


def air():
    file = min((Path(FOLDER) / "prsa_beijing_air").glob("*.csv"))
    table = pd.read_csv(file, na_values=[" "]).dropna().iloc[::4]
    columns = ["year", "month", "hour", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "WSPM"]
    return table[columns], table["PM2.5"]


@cache
def standardised(table):
    """Return a table in columns that scikit-learn's step lengths suit."""
    X, y = (np.asarray(part, dtype=np.float64) for part in table())
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    order = np.random.default_rng(1).permutation(len(y))
    return np.ascontiguousarray(X[order]), y[order]


def objective(X, y, model, loss):
    size, epsilon = np.abs(y - X @ model.coef_ - model.intercept_), EPSILON[loss]
    beyond = np.maximum(size - epsilon, 0.0)
    losses = {
        "squared_error": 0.5 * size**2,
        "huber": np.where(size < epsilon, 0.5 * size**2, epsilon * (size - 0.5 * epsilon)),
        "epsilon_insensitive": beyond,
        "squared_epsilon_insensitive": beyond**2,
    }[loss]
    return losses.mean() + 0.5 * ALPHA * model.coef_ @ model.coef_


@cache
def optimum(table, loss="squared_error"):
    X, y = standardised(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of the loss with kinks
        exact = DistributedGDRegressor(loss, epsilon=EPSILON[loss], alpha=ALPHA, tol=1e-7)
        return objective(X, y, exact.fit(X, y), loss)


@cache
def bar(table, n_passes, loss="squared_error"):
    """Return the error that is good enough: scikit-learn's at its better first step length."""
    X, y = standardised(table)
    errors = []
    for eta0 in (0.01, 0.001):
        theirs = SGDRegressor(loss, epsilon=EPSILON[loss], alpha=ALPHA, max_iter=n_passes,
                              tol=None, random_state=0, eta0=eta0)  # fmt: skip
        errors.append(objective(X, y, theirs.fit(X, y), loss) / optimum(table, loss) - 1.0)
    return max(1.05 * min(errors), 1e-3)


def spread(table, layout):
    """Return the rows of a table in the order and the chunks of a layout."""
    X, y = standardised(table)
    number, *how = layout.split()
    n, n_nodes = len(y), int(number)
    order = np.argsort(y, kind="stable") if "sorted" in how else np.arange(n)
    sizes = np.diff(np.linspace(0, n, n_nodes + 1).astype(int)).tolist()
    if "uneven" in how:
        rest = np.diff(np.linspace(0, n // 10, n_nodes).astype(int)).tolist()
        sizes = [n - sum(rest), *rest]
    chunks = (tuple(sizes), (X.shape[1],))
    return da.from_array(X[order], chunks=chunks), da.from_array(y[order], chunks=chunks[:1])


def error_after(table, layout, n_passes, loss="squared_error"):
    model = DistributedSGDRegressor(
        loss, epsilon=EPSILON[loss], alpha=ALPHA, max_iter=n_passes, tol=None, random_state=0,
        n_shards="blocks",
    ).fit(*spread(table, layout))  # fmt: skip
    assert model.n_iter_ <= n_passes
    return objective(*standardised(table), model, loss) / optimum(table, loss) - 1.0


LAYOUTS = ["1", "1 sorted"] + [
    f"{nodes}{layout}"
    for nodes in (2, 4, 16)
    for layout in ("", " sorted", " uneven", " uneven sorted")
]


@pytest.mark.parametrize("n_passes", [5, 20])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_worse_than_scikit_learn_wherever_the_rows_are(layout, n_passes):
    assert error_after(generated, layout, n_passes) <= bar(generated, n_passes)


@pytest.mark.skipif(not FOLDER, reason="DASK_DML_DATA does not point at the folder of real data")
@pytest.mark.parametrize("layout", ["1", "2 uneven sorted", "4 sorted", "16", "16 uneven sorted"])
@pytest.mark.parametrize("table", [houses, flights, air])
def test_no_worse_on_real_tables(table, layout):
    for n_passes in (5, 20):
        assert error_after(table, layout, n_passes) <= bar(table, n_passes)


@pytest.mark.parametrize("layout", ["1", "4 sorted", "16 uneven"])
@pytest.mark.parametrize("loss", sorted(EPSILON.keys() - {"squared_error"}))
def test_other_losses_are_no_worse_after_twenty_passes(loss, layout):
    assert error_after(generated, layout, 20, loss) <= bar(generated, 20, loss)


# The number of passes


@cache
def small(wide, sparse):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 520 if wide else 6))
    if sparse:
        X *= rng.random(X.shape) < 0.2
    y = X[:, :4] @ [1.0, -2.0, 0.5, 3.0] + 0.5 * rng.standard_normal(len(X)) + 2.0
    return sp.csr_array(X) if sparse else X, y


@pytest.mark.parametrize(("wide", "sparse"), [(False, False), (True, True)])
@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize("loss", EPSILON)
def test_no_more_passes_than_allowed(loss, penalty, wide, sparse):
    X, y = small(wide, sparse)
    model = DistributedSGDRegressor(
        loss, penalty=penalty, alpha=0.01, tol=None, random_state=0, n_shards=2, n_jobs=1
    )
    for max_iter in range(2, 9):
        model.set_params(max_iter=max_iter, warm_start=False)
        cold = model.fit(X, y).n_iter_
        assert 2 <= cold <= max_iter
        # A fit that goes on has to look at where it starts.
        warm = model.set_params(warm_start=True).fit(X, y).n_iter_
        assert 2 <= warm <= max_iter


@pytest.mark.parametrize("parameters", [{}, {"variance_reduction": None}, {"loss": "huber"}])
def test_a_single_pass_is_one_with_steps_after_the_survey(parameters):
    X, y = small(False, False)
    model = DistributedSGDRegressor(max_iter=1, tol=None, random_state=0, **parameters).fit(X, y)
    assert model.n_iter_ == 2
    assert model.t_ == len(y) + 1


@pytest.mark.parametrize("n_shards", [1, 3])
def test_a_pass_that_is_left_over_is_used(n_shards):
    X, y = standardised(generated)
    X, y = X[:3000], y[:3000]
    curves = {}
    for max_iter in (3, 4, 5, 6):
        model = DistributedSGDRegressor(
            alpha=ALPHA, max_iter=max_iter, tol=None, random_state=0, n_shards=n_shards
        ).fit(X, y)
        curves[max_iter] = model.loss_curve_
        assert model.n_iter_ == max_iter
        final = objective(X, y, model, "squared_error")
        assert model.loss_curve_[-1] == pytest.approx(final, rel=1e-9)
    # Survey, steps and a look at their end are three; what one more is for needs no steps.
    assert curves[4][: len(curves[3])] == curves[3]
    for fewer in (3, 5):
        assert curves[fewer + 1][-1] < curves[fewer][-1]
