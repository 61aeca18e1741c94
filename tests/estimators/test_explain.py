"""What `explain` tells is what fits then do."""

import copy
import time
import warnings

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning

from dask_dml import (
    DistributedGDRegressor,
    DistributedGDRegressorCV,
    DistributedLinearSVC,
    DistributedSGDRegressor,
)
from dask_dml.rounds import choose

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 5))
Y = X[:, 0] - X[:, 1] + rng.normal(size=200)
SIZES = [(30, 3), (200, 8), (1200, 4), (600, 30), (40, 60)]


def pick(draw, *options):
    return options[draw.integers(len(options))]


def random_estimator(draw):
    kind = pick(draw, "gd", "gd", "gd", "svc", "svc", "sgd", "cv")
    if kind == "gd":
        loss = pick(draw, "squared_error", "huber", "quantile", "squared_epsilon_insensitive",
                    "epsilon_insensitive")  # fmt: skip
        penalty = pick(draw, "l2", "l1", "elasticnet", None)
        solvers = ["auto", "auto", "newton", "accelerated"]
        solvers += ["statistics"] if loss == "squared_error" else []
        solvers += ["lbfgs"] if penalty in ("l2", None) else []
        alpha = 10.0 ** draw.uniform(-4, 0)
        return DistributedGDRegressor(
            loss, penalty=penalty, alpha=alpha, solver=pick(draw, *solvers), max_iter=200
        )
    if kind == "svc":
        loss, penalty = pick(
            draw, ("hinge", "l2"), ("squared_hinge", "l2"), ("squared_hinge", "l1")
        )
        solver = pick(draw, "auto", "auto", "newton", *(["dual"] if penalty == "l2" else []))
        return DistributedLinearSVC(
            loss=loss, penalty=penalty, C=10.0 ** draw.uniform(-2, 1), solver=solver, max_iter=200
        )
    if kind == "sgd":
        return DistributedSGDRegressor(random_state=0, max_iter=100)
    return DistributedGDRegressorCV(alphas=5, cv=3)


def random_data(draw, case):
    n, p = pick(draw, *SIZES)
    x = draw.normal(size=(n, p)) * 10.0 ** draw.uniform(-1, 1, p)
    y = x[:, 0] / x[:, 0].std() + draw.normal(size=n)
    container = pick(draw, "numpy", "csr", "dask", "dask", "frame")
    if container == "csr":
        x = sp.csr_array(x * (draw.uniform(size=x.shape) < 0.5))
    elif container == "dask":
        x = da.from_array(x, chunks=(max(n // 3, 1), -1))
    elif container == "frame":
        x = dd.from_pandas(pd.DataFrame(x, columns=[f"c{k}" for k in range(p)]), npartitions=2)
    return x, y, container


@pytest.mark.parametrize(
    "n_cases",
    [
        pytest.param(25, marks=pytest.mark.timeout(600)),
        pytest.param(200, marks=[pytest.mark.hard, pytest.mark.timeout(3600)]),
    ],
)
def test_engine_solver_and_passes_are_foretold(monkeypatch, client, n_cases):
    wrong = []
    for case in range(n_cases):
        draw = np.random.default_rng(case)
        model, (x, y, container) = random_estimator(draw), random_data(draw, case)
        y = y > 0 if isinstance(model, DistributedLinearSVC) else y
        with monkeypatch.context() as patch:
            if case % 5 == 0:  # nothing fits anywhere
                patch.setattr(choose, "LOCAL_SHARE", 0.0)
                patch.setattr(choose, "cluster_memory", lambda client: 0.0)
            before = copy.copy(vars(model))
            told = model.explain(x, y)
            assert vars(model) == before
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, y)
        low, high = told.passes
        right = [told.engine == model.engine_, low <= model.n_rounds_ <= high]
        if hasattr(model, "solver_"):
            right.append(told.solver == model.solver_)
        if not all(right):
            found = model.engine_, getattr(model, "solver_", None), model.n_rounds_
            wrong.append((case, model, container, told.engine, told.solver, told.passes, found))
    print(len(wrong), "of", n_cases)
    assert len(wrong) <= 0.05 * n_cases, wrong


def test_what_is_told():
    told = DistributedGDRegressor("huber").explain(X, Y)
    assert told.nbytes == X.nbytes
    assert (told.n_rows, told.n_features, told.n_chunks, told.workers) == (200, 5, 1, 0)
    text = str(told)
    for title in told.facts():
        assert f"\n{title}: " in text
    assert "200 rows, 5 columns, float64" in text
    assert told._repr_html_().count("<tr>") == len(told.facts())


def test_advice(client):
    lazy = da.from_array(np.tile(X, (2, 1)), chunks=(2, -1)), np.tile(Y, 2)
    told = DistributedGDRegressor(solver="gd", eta0=0.5).explain(*lazy)
    said = " ".join(told.advice)
    for words in ("rechunk to 10 to 500 MB", "scale them", "Leave eta0 at its default"):
        assert words in said
    assert told.engine == "cluster"
    assert told.workers == told.threads == 2
    one = da.from_array(X, chunks=(200, -1))
    assert "rechunk into more" in " ".join(DistributedGDRegressor().explain(one, Y).advice)


def test_far_clusters(client, monkeypatch):
    """Round trips count in the seconds of every pass."""
    lazy = da.from_array(X, chunks=(50, -1)), Y
    near = DistributedGDRegressor("huber").explain(*lazy)
    assert near.trip > 0.0
    assert DistributedGDRegressor("huber").explain(X, Y).trip == 0.0
    ask = choose.worker_info

    def slowly(client):
        time.sleep(0.1)
        return ask(client)

    monkeypatch.setattr(choose, "worker_info", slowly)
    far = DistributedGDRegressor("huber").explain(*lazy)
    assert far.trip >= 0.1
    assert far.seconds[1] >= far.passes[1] * 0.1
    assert "near the scheduler" in " ".join(far.advice)
    assert not any("scheduler" in said for said in DistributedGDRegressor().explain(*lazy).advice)


def test_unknown_sizes():
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcde")), npartitions=3)
    told = DistributedLinearSVC(loss="hinge").explain(frame, pd.Series(Y > 0))
    assert np.isnan(told.n_rows)
    assert "not known" in told.why
    assert "unknown" in str(told)


def test_bad_parameters_and_columns():
    with pytest.raises(ValueError, match="'alpha'"):
        DistributedGDRegressor(alpha=-1.0).explain(X, Y)
    with pytest.raises(ValueError, match="needs loss='squared_error'"):
        DistributedGDRegressor("huber", solver="statistics").explain(X, Y)
    with pytest.raises(ValueError, match="penalty='l1' and loss='hinge'"):
        DistributedLinearSVC(penalty="l1", loss="hinge").explain(X, Y > 0)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (DistributedGDRegressor(learning_rate="constant"), "learning_rate='constant'"),
        (DistributedGDRegressor("huber", momentum=0.5), "momentum=0.5"),
        (DistributedGDRegressor(solver="gd", eta0=1.0), "eta0=1.0"),
        (DistributedSGDRegressor(power_t=0.5), "power_t=0.5"),
    ],
)
def test_parameters_that_are_not_read_are_warned_of(model, name):
    with pytest.warns(UserWarning, match=f"{type(model).__name__} ignores {name}") as caught:
        model.fit(X, Y)
    assert caught[0].filename == __file__
