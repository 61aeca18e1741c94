"""Streams: what `partial_fit` makes of blocks of rows in any order."""

import pickle
import warnings

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor

from dask_dml import DistributedGDRegressor, DistributedSGDRegressor
from dask_dml.blocks import Shard, frozen
from dask_dml.objective.losses import make_loss
from dask_dml.solvers.sgd.stream import MAX_NUMBERS, suits
from dask_dml.solvers.sgd.stream_memory import Parabola
from dask_dml.solvers.sgd.stream_pass import (
    Expansion,
    ExpansionPoint,
    curvature,
    expansion,
    loss_and_slope,
)

ALPHA = 1e-4
LOSSES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


def table(n=20_000, p=10, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    return X, X @ rng.standard_normal(p) + rng.standard_normal(n)


def objective(X, y, model, loss="squared_error", alpha=ALPHA, weight=None):
    left = y - X @ model.coef_ - np.ravel(model.intercept_)[0]
    losses = loss_and_slope(left, make_loss(loss, 0.1).parameters())[0]
    mean = np.average(losses, weights=weight)
    return mean + 0.5 * alpha * model.coef_ @ model.coef_


def optimum(X, y, loss="squared_error", **parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of gaps that hardly can be closed
        return DistributedGDRegressor(loss=loss, tol=1e-9, n_jobs=1, **parameters).fit(X, y)


def ordered(X, y, order):
    if order == "random":
        return X, y
    by = np.argsort(y if order == "by target" else X[:, 0])
    return X[by], y[by]


def epochs(model, X, y, n_epochs, n_blocks=8, shuffled=False):
    """Give the blocks to the model, epoch by epoch; yield after each."""
    rng = np.random.default_rng(0)
    blocks = np.array_split(np.arange(len(y)), n_blocks)
    for _ in range(n_epochs):
        for b in rng.permutation(n_blocks) if shuffled else range(n_blocks):
            model.partial_fit(X[blocks[b]], y[blocks[b]])
        yield model


@pytest.mark.parametrize("order", ["random", "by target", "by column"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_epoch_gets_closer_and_is_ahead_of_scikit_learn(loss, order):
    X, y = ordered(*table(), order)
    best = objective(X, y, optimum(X, y, loss, alpha=ALPHA), loss)
    ours, theirs = [], []
    for model, errors, n_epochs in (
        (DistributedSGDRegressor(loss=loss, random_state=0, n_jobs=1), ours, 20),
        (SGDRegressor(loss=loss, random_state=0), theirs, 5),
    ):
        for fitted in epochs(model, X, y, n_epochs):
            errors.append(objective(X, y, fitted, loss) / best - 1.0)
    assert ours[19] <= 1e-4
    assert ours[19] <= ours[4] <= ours[0] or ours[0] <= 1e-12
    assert ours[0] < theirs[0]
    assert ours[4] < theirs[4]


def test_squared_error_is_exact_for_what_has_been_seen():
    X, y = table(600, 5)
    weight = np.random.default_rng(1).uniform(0.1, 3.0, 600)
    same = {"penalty": "elasticnet", "l1_ratio": 0.5, "alpha": 0.05}
    model = DistributedSGDRegressor(**same)
    for end in (7, 40, 41, 300, 600):
        start = {7: 0, 40: 7, 41: 40, 300: 41, 600: 300}[end]
        model.partial_fit(X[start:end], y[start:end], weight[start:end])
        exact = DistributedGDRegressor(**same, tol=1e-12).fit(X[:end], y[:end], weight[:end])
        np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-9)
        assert model.intercept_ == pytest.approx(exact.intercept_, abs=1e-9)
        assert model.loss_curve_[-1] == pytest.approx(exact.loss_curve_[-1], rel=1e-9)


PARTS = (slice(0, 300), slice(300, 900), slice(900, 1200))


def contained(container, X, y):
    if container == "csr":
        return sp.csr_array(X), y
    if container == "float32":
        return X.astype(np.float32), y.astype(np.float32)
    if container == "dask":
        return da.from_array(X, chunks=(100, X.shape[1])), da.from_array(y, chunks=(100, -1))
    return X, y


@pytest.mark.parametrize("container", ["csr", "dask", "float32", "outputs"])
@pytest.mark.parametrize("loss", LOSSES)
def test_containers_and_outputs_make_no_difference(loss, container):
    X, y = table(1200, 6)
    X *= np.random.default_rng(3).random(X.shape) < 0.5
    Y = np.column_stack([y, -2.0 * y + X[:, 0]])
    model = DistributedSGDRegressor(loss=loss, random_state=0, n_jobs=1)
    alone = [clone(model) for _ in range(2)]
    for rows in PARTS:
        model.partial_fit(*contained(container, X[rows], Y[rows]))
        for c, single in enumerate(alone):
            single.partial_fit(X[rows], Y[rows, c])
    tolerance = 1e-4 if container == "float32" else 1e-9
    for c, single in enumerate(alone):
        np.testing.assert_allclose(model.coef_[c], single.coef_, atol=tolerance)
        assert model.intercept_[c] == pytest.approx(single.intercept_, abs=tolerance)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repetitions_and_have_no_scale(loss, factor):
    X, y = table(1200, 6)
    weight = np.random.default_rng(4).integers(0, 4, 1200).astype(float)
    model = DistributedSGDRegressor(loss=loss, random_state=0, n_jobs=1)
    plain, repeated = clone(model), clone(model)
    for rows in PARTS:
        plain.partial_fit(X[rows], y[rows], weight[rows])
        model.partial_fit(X[rows], y[rows], factor * weight[rows])
        again = np.repeat(np.arange(1200)[rows], weight[rows].astype(int))
        repeated.partial_fit(X[again], y[again])
    np.testing.assert_allclose(model.coef_, plain.coef_, rtol=1e-9)
    values = [objective(X, y, m, loss, weight=weight) for m in (plain, repeated)]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    if loss == "squared_error":
        np.testing.assert_allclose(plain.coef_, repeated.coef_, rtol=1e-9)


def test_nodes_may_count_the_same():
    X, y = table(600, 4)
    sizes = ((400, 200), (4,))
    weight = np.r_[np.full(400, 1 / 400), np.full(200, 1 / 200)]
    same = {"random_state": 0, "n_shards": "blocks"}
    uniform = DistributedSGDRegressor(aggregation="uniform", **same)
    weighted = DistributedSGDRegressor(**same)
    dX, dy = da.from_array(X, chunks=sizes), da.from_array(y, chunks=sizes[:1])
    uniform.partial_fit(dX, dy)
    weighted.partial_fit(dX, dy, weight)
    np.testing.assert_allclose(uniform.coef_, weighted.coef_, rtol=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_offsets_and_scales_of_columns_do_not_matter(loss):
    X, y = table(3000, 6)
    scale, offset = np.geomspace(1e-4, 1e4, 6), np.linspace(-1e5, 1e5, 6)
    plain, moved = (DistributedSGDRegressor(loss=loss, alpha=0.0) for _ in range(2))
    for rows in np.array_split(np.arange(3000), 3):
        plain.partial_fit(X[rows], y[rows])
        moved.partial_fit((X[rows] + offset) * scale, y[rows] + 1e6)
    np.testing.assert_allclose(moved.coef_ * scale, plain.coef_, atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_stream_goes_on_from_a_fit(loss):
    X, y = table(4000, 6)
    model = DistributedSGDRegressor(loss=loss, random_state=0, n_jobs=1).fit(X[:3000], y[:3000])
    model.partial_fit(X[3000:], y[3000:])
    best = objective(X, y, optimum(X, y, loss, alpha=ALPHA), loss)
    new = DistributedSGDRegressor(loss=loss, random_state=0).partial_fit(X[3000:], y[3000:])
    error = objective(X, y, model, loss) / best - 1.0
    assert error < 0.2 * (objective(X, y, new, loss) / best - 1.0)
    assert error < 1e-3


def test_parameters_may_change_on_the_way():
    X, y = table(2000, 5)
    model = DistributedSGDRegressor(alpha=1.0, random_state=0)
    model.partial_fit(X[:1000], y[:1000])
    model.set_params(alpha=ALPHA).partial_fit(X[1000:], y[1000:])
    exact = optimum(X, y, alpha=ALPHA)
    np.testing.assert_allclose(model.coef_, exact.coef_, atol=1e-9)
    for change in ({"loss": "huber"}, {"fit_intercept": False}, {"learning_rate": "constant"}):
        model.set_params(**change).partial_fit(X, y)
        assert model.score(X, y) > 0.8


def test_what_is_kept_is_bounded_and_numpy():
    X, y = table(500, 5)
    model = DistributedSGDRegressor(loss="huber")
    sizes = [len(pickle.dumps(model.partial_fit(X, y))) for _ in range(6)]
    assert sizes[5] - sizes[0] < 16
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.partial_fit(X, y).coef_, model.partial_fit(X, y).coef_)
    assert not hasattr(clone(model), "coef_")
    assert suits(511, 1, make_loss("huber", 0.1))
    assert not suits(512, 1, make_loss("huber", 0.1))
    assert MAX_NUMBERS >= 512**2


def test_bad_rows_leave_the_stream_as_it_was():
    X, y = table(600, 4)
    model = DistributedSGDRegressor(loss="huber").partial_fit(X, y)
    before = model.coef_.copy()
    bad = X.copy()
    bad[7, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        model.partial_fit(da.from_array(bad, chunks=(300, 4)), y)
    with pytest.raises(ValueError, match="weights sum to zero"):
        model.partial_fit(da.from_array(X, chunks=(300, 4)), y, da.zeros(600, chunks=300))
    np.testing.assert_array_equal(model.coef_, before)
    other = DistributedSGDRegressor(loss="huber").partial_fit(X, y)
    np.testing.assert_array_equal(model.partial_fit(X, y).coef_, other.partial_fit(X, y).coef_)


def test_a_stream_that_drifts_is_told_of():
    X, y = table(12_000, 5)
    model = DistributedSGDRegressor(random_state=0)
    for rows in np.array_split(np.arange(6000), 6):
        model.partial_fit(X[rows], y[rows])
    model.partial_fit(X[6000:7000], -y[6000:7000])
    model.partial_fit(X[7000:8000], -y[7000:8000])
    with pytest.warns(UserWarning, match="unlike those before.*learning_rate='constant'"):
        model.partial_fit(X[8000:9000], -y[8000:9000])


def test_wide_streams_average_and_tell_when_they_forget():
    rng = np.random.default_rng(0)
    X = sp.random_array((4000, 600), density=0.05, format="csr", rng=rng)
    y = X @ rng.standard_normal(600) + 0.1 * rng.standard_normal(4000)
    best = objective(X, y, optimum(X, y, alpha=ALPHA))
    model = DistributedSGDRegressor(random_state=0, n_jobs=1)
    errors = [objective(X, y, m) / best - 1.0 for m in epochs(model, X, y, 20)]
    assert errors[19] < errors[4] < errors[0]
    by = np.argsort(y)
    with pytest.warns(UserWarning, match="Steps forget"):
        list(epochs(DistributedSGDRegressor(random_state=0), X[by], y[by], 1))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_expansions_are_sums_over_rows(loss, sparse):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((37, 3)) + 5.0, rng.standard_normal((37, 2))
    weight, mean = rng.uniform(0.0, 2.0, 37), np.array([4.0, 5.0, 0.0])
    parameters = np.array([make_loss(loss, 0.3).parameters()] * 2)
    place = ExpansionPoint(
        point=rng.standard_normal((2, 4)), parameters=parameters, width=np.array([0.2, 0.5]),
        share=np.array([0.1, 1.0]), column=np.array([1, 0]), mean=mean,
        target_mean=np.array([0.5, -0.5]), units=np.array([2.0]),
    )  # fmt: skip
    blocks = tuple(
        frozen(sp.csr_array(X[a:b]) if sparse else X[a:b], Y[a:b], weight[a:b], ())
        for a, b in ((0, 20), (20, 37))
    )
    found = expansion(Shard(0, blocks), place)
    Z = np.column_stack([X - mean, np.ones(37)])
    for c, column in enumerate((1, 0)):
        left = Y[:, column] - place.target_mean[c] - Z @ place.point[c]
        losses, slopes = loss_and_slope(left, parameters[c])
        bend = curvature(left, parameters[c], place.width[c], place.share[c])
        assert found.value[c] == pytest.approx(2.0 * weight @ losses)
        np.testing.assert_allclose(found.gradient[c], -2.0 * Z.T @ (weight * slopes), atol=1e-9)
        whole = 2.0 * (Z.T * weight * bend) @ Z
        np.testing.assert_allclose(np.tril(found.hessian[c]), np.tril(whole), atol=1e-9)
        assert found.root[c] == pytest.approx(2.0 * weight @ np.sqrt(np.abs(left)))
    assert found.weight == pytest.approx(2.0 * weight.sum())


@pytest.mark.parametrize("loss", LOSSES)
def test_the_curvature_is_the_change_of_the_slope(loss):
    """And parabolas with the whole share lie above the loss, but for the width about a kink."""
    parameters = make_loss(loss, 0.3).parameters()
    grid = np.linspace(-3.0, 3.0, 60_001)
    value, slope = loss_and_slope(grid, parameters)
    step = 0.6 if loss == "epsilon_insensitive" else 2e-4
    np.testing.assert_allclose(np.gradient(value, grid)[1:-1], slope[1:-1], atol=step)
    bend = curvature(grid, parameters, 0.05, 0.0)
    change = np.cumsum(bend[:-1]) * (grid[1] - grid[0])
    far = np.abs(np.abs(grid[1:]) - 0.3) > 0.2
    np.testing.assert_allclose(change[far] + slope[0], slope[1:][far], atol=5e-3)
    above = curvature(grid, parameters, 0.05, 1.0)
    for at in range(100, 60_000, 997):
        parabola = (
            value[at] + slope[at] * (grid - grid[at]) + 0.5 * above[at] * (grid - grid[at]) ** 2
        )
        assert np.all(parabola >= value - 0.05)


def test_parabolas_of_second_moments_and_of_expansions_agree():
    from dask_dml.passes.evaluate import statistics

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 3)) + 2.0, rng.standard_normal((30, 1)) + 7.0
    shard = Shard(0, (frozen(X, y, None, ()),))
    mean, target_mean, point = (
        np.array([1.0, 2.0, 3.0]),
        np.array([6.0]),
        np.array([[0.3, -1.0, 0.2, 0.5]]),
    )
    squares = Parabola.of_statistics(statistics(shard, None), mean, target_mean)
    place = ExpansionPoint(
        point=point, parameters=make_loss("squared_error", 0.1).parameters()[None],
        width=np.ones(1), share=np.ones(1), column=np.zeros(1, dtype=np.intp), mean=mean,
        target_mean=target_mean, units=None,
    )  # fmt: skip
    e: Expansion = expansion(shard, place)
    hessian = np.tril(e.hessian) + np.tril(e.hessian, -1).transpose(0, 2, 1)
    about = Parabola.about(point, e.value, e.gradient, hessian)
    for one, other in ((squares.hessian, about.hessian), (squares.linear, about.linear)):
        np.testing.assert_allclose(one, other, rtol=1e-10)
    assert squares.constant == pytest.approx(about.constant)
    assert squares.value(point) == pytest.approx(e.value)
