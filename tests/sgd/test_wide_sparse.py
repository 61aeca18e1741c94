"""Wide sparse rows: what the columns are numbered does not matter, nor those that do not occur."""

import itertools

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import SGDRegressor

from dask_dml import DistributedSGDRegressor

WIDE, N, OCCURRING = 5000, 240, 90

MODES = {
    "svrg": {},
    "averaged": {"variance_reduction": None},
    "schedule": {"learning_rate": "invscaling", "eta0": 0.05},
    "sampled": {"local_steps": 9, "batch_size": 2},
    "l1": {"penalty": "l1", "alpha": 1e-3},
    "huber": {"loss": "huber", "epsilon": 0.5},
}


@pytest.fixture(scope="module")
def rows():
    """Rows in the columns that occur, their targets, and where the columns are among all."""
    rng = np.random.default_rng(0)
    X = rng.random((N, OCCURRING)) * (rng.random((N, OCCURRING)) < 0.1)
    X[:, 3] = 1.0 + rng.random(N)
    X[np.arange(OCCURRING), np.arange(OCCURRING)] = 1.0
    y = X @ rng.standard_normal(OCCURRING) + 0.1 * rng.standard_normal(N)
    places = np.sort(rng.choice(WIDE, OCCURRING, replace=False)).astype(np.int32)
    return sp.csr_array(X), y, places


def spread_out(X, places, width=WIDE):
    return sp.csr_array((X.data, places[X.indices], X.indptr), shape=(X.shape[0], width))


def model_of(mode, **parameters):
    return DistributedSGDRegressor(
        **{"max_iter": 5, "tol": None, "random_state": 3, "n_shards": 2} | MODES[mode] | parameters
    )


@pytest.mark.parametrize("mode", MODES)
def test_columns_that_do_not_occur_change_nothing(rows, mode):
    X, y, places = rows
    narrow = model_of(mode).fit(X, y)
    wide = model_of(mode).fit(spread_out(X, places), y)
    np.testing.assert_allclose(wide.coef_[places], narrow.coef_, rtol=1e-9, atol=1e-12)
    assert wide.intercept_ == pytest.approx(narrow.intercept_, rel=1e-9)
    assert np.count_nonzero(np.delete(wide.coef_, places)) == 0


@pytest.mark.parametrize("mode", ["svrg", "averaged", "schedule"])
def test_several_outputs_and_weights_in_columns_that_occur(rows, mode):
    X, y, places = rows
    Y, weight = np.column_stack([y, y[::-1]]), 0.5 + np.random.default_rng(1).random(N)
    narrow = model_of(mode, aggregation="uniform").fit(X, Y, weight)
    wide = model_of(mode, aggregation="uniform").fit(spread_out(X, places), Y, weight)
    np.testing.assert_allclose(wide.coef_[:, places], narrow.coef_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("mode", ["svrg", "averaged"])
def test_nodes_with_different_columns_and_chunks(rows, mode):
    """Half of the columns occur on one node only; several chunks make a node."""
    X, y, places = rows
    X = sp.csr_array(X)
    dense = X.toarray()
    dense[:120, 45:] = 0.0
    dense[120:, 10:45] = 0.0
    X = sp.csr_array(dense)
    wide, expected = spread_out(X, places), model_of(mode).fit(X, y)
    found = model_of(mode).fit(wide, y)
    np.testing.assert_allclose(found.coef_[places], expected.coef_, rtol=1e-9, atol=1e-12)
    sizes = (50, 70, 60, 60)
    ends = np.cumsum((0, *sizes))
    parts = [
        da.from_array(wide[a:b], chunks=(b - a, WIDE), asarray=False)
        for a, b in itertools.pairwise(ends)
    ]
    chunked = model_of(mode).fit(da.concatenate(parts), da.from_array(y, chunks=(sizes,)))
    np.testing.assert_allclose(chunked.coef_, found.coef_, rtol=1e-9, atol=1e-12)


def started(mode, rows, where, **parameters):
    """Return a model whose coefficients of some columns are from rows that had them."""
    X, y, _ = rows
    return model_of(mode, **parameters).fit(spread_out(X, where), y)


@pytest.mark.parametrize("mode", ["svrg", "averaged", "huber"])
def test_a_warm_start_leaves_alone_what_does_not_occur(rows, mode):
    """``auto`` steps of sparse rows touch nothing that they have no entry for."""
    X, y, places = rows
    elsewhere = np.setdiff1d(np.arange(WIDE, dtype=np.int32), places)[:OCCURRING]
    model = started(mode, rows, elsewhere, warm_start=True, alpha=1e-3)
    before = model.coef_.copy()
    assert np.count_nonzero(before[elsewhere]) == OCCURRING
    model.fit(spread_out(X, places), y)
    assert np.count_nonzero(model.coef_[places]) == OCCURRING
    gone = np.abs(model.coef_[elsewhere]) / np.abs(before[elsewhere])
    if mode == "averaged":
        np.testing.assert_array_equal(model.coef_[elsewhere], before[elsewhere])
    else:
        # Variance reduction minimises the objective, whose penalty such columns have, too.
        assert np.all(gone <= 1.0 + 1e-9)


def test_partial_fit_leaves_alone_what_does_not_occur(rows):
    X, y, places = rows
    other = np.setdiff1d(np.arange(WIDE, dtype=np.int32), places)[:OCCURRING]
    model = model_of("averaged")
    model.partial_fit(spread_out(X, places), y)
    first = model.coef_.copy()
    assert np.count_nonzero(first) == np.count_nonzero(first[places]) == OCCURRING
    model.partial_fit(spread_out(X, other), y)
    np.testing.assert_array_equal(model.coef_[places], first[places])
    assert np.count_nonzero(model.coef_[other]) == OCCURRING
    assert np.count_nonzero(model.coef_) == 2 * OCCURRING


@pytest.mark.parametrize("mode", ["averaged", "schedule"])
def test_partial_fits_on_batches_in_which_different_columns_occur(rows, mode):
    """As if all columns that ever occur were there from the start."""
    X, y, places = rows
    narrow, wide = model_of(mode), model_of(mode)
    for batch in range(6):
        chosen = np.arange(batch, N, 6)
        part = X[chosen].toarray()
        part[:, np.arange(OCCURRING) % 6 == batch] = 0.0
        part = sp.csr_array(part)
        narrow.partial_fit(part, y[chosen])
        wide.partial_fit(spread_out(part, places), y[chosen])
        np.testing.assert_allclose(wide.coef_[places], narrow.coef_, rtol=1e-9, atol=1e-12)
    assert wide.t_ == narrow.t_ == N + 1
    assert np.count_nonzero(np.delete(wide.coef_, places)) == 0


def test_a_schedule_shrinks_what_does_not_occur_as_scikit_learn_does(rows):
    X, y, places = rows
    elsewhere = np.setdiff1d(np.arange(WIDE, dtype=np.int32), places)[:OCCURRING]
    first, second = spread_out(X, elsewhere), spread_out(X, places)
    # scikit-learn takes shorter steps for the intercept where rows are sparse.
    same = {"alpha": 0.02, "eta0": 0.02, "learning_rate": "constant", "shuffle": False,
            "fit_intercept": False, "max_iter": 2, "tol": None}  # fmt: skip
    ours = DistributedSGDRegressor(n_shards=1, **same).fit(first, y)
    theirs = SGDRegressor(**same).fit(first, y)
    before = np.abs(ours.coef_[elsewhere]).sum()
    for _ in range(2):
        ours.partial_fit(second, y)
        theirs.partial_fit(second, y)
    shrinkage = (1.0 - 0.02 * 0.02) ** (2 * N)
    assert np.abs(ours.coef_[elsewhere]).sum() == pytest.approx(shrinkage * before, rel=1e-9)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9, atol=1e-12)


def test_what_does_not_occur_owes_the_l1_penalty_for_every_row(rows):
    X, y, places = rows
    elsewhere = np.setdiff1d(np.arange(WIDE, dtype=np.int32), places)[:OCCURRING]
    model = DistributedSGDRegressor(
        penalty="l1", alpha=0.01, eta0=0.02, learning_rate="constant", shuffle=False, n_shards=1,
        max_iter=1, tol=None,
    ).fit(spread_out(X, elsewhere), y)  # fmt: skip
    before = model.coef_[elsewhere].copy()
    model.partial_fit(spread_out(X, places), y)
    owed = np.sign(before) * np.maximum(np.abs(before) - N * 0.02 * 0.01, 0.0)
    np.testing.assert_allclose(model.coef_[elsewhere], owed, rtol=1e-9, atol=1e-12)
    assert 0 < np.count_nonzero(owed) < OCCURRING


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_textbook_steps_travel_whole(container):
    """Single precision is for steps that only direct: the textbook's are what they are."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((60, 1500)) * (rng.random((60, 1500)) < 0.02)
    y = X[:, :20].sum(axis=1) + 1.0
    model = DistributedSGDRegressor(
        penalty=None, learning_rate="constant", eta0=0.01, shuffle=False, n_shards=1, max_iter=3,
        tol=None,
    ).fit(container(X), y)  # fmt: skip
    w, b = np.zeros(1500), 0.0
    for x, target in itertools.chain(*[list(zip(X, y, strict=True))] * 3):
        step = 0.01 * (target - x @ w - b)
        w, b = w + step * x, b + step
    np.testing.assert_allclose(model.coef_, w, rtol=0, atol=1e-13)
    assert model.intercept_ == pytest.approx(b, abs=1e-13)


@pytest.mark.parametrize("variance_reduction", ["svrg", None])
@pytest.mark.parametrize("unit", [1e-40, 1e40])
def test_units_beyond_single_precision(variance_reduction, unit):
    rng = np.random.default_rng(4)
    X = sp.csr_array(rng.standard_normal((400, 1500)) * (rng.random((400, 1500)) < 0.02))
    y = X[:, :20].sum(axis=1)

    def fitted(y):
        return DistributedSGDRegressor(
            n_shards=2, random_state=0, max_iter=6, tol=None, variance_reduction=variance_reduction
        ).fit(X, y)

    expected = fitted(y).coef_
    found = fitted(unit * y).coef_ / unit
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
