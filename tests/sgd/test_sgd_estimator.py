"""The estimator: parameters, stopping, partial fits and errors."""

import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDRegressor
from sklearn.utils.estimator_checks import parametrize_with_checks

from dask_dml import DistributedSGDRegressor

# Which rows are drawn depends on their number, so that weights are repetitions at the optimum
# only.  Some tens of passes come near to it; whether to seven digits depends on the machine.
STOCHASTIC = {
    "check_sample_weight_equivalence_on_dense_data": "a stochastic fit depends on the rows' number",
    "check_sample_weight_equivalence_on_sparse_data": "likewise",
}


@parametrize_with_checks(
    [
        DistributedSGDRegressor(n_jobs=1),
        DistributedSGDRegressor(loss="huber", penalty="elasticnet", n_jobs=1),
        DistributedSGDRegressor(variance_reduction=None, average=True, n_jobs=1),
        DistributedSGDRegressor(local_steps=3, batch_size=2, n_jobs=1),
    ]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learns_checks(estimator, check):
    try:
        check(estimator)
    except AssertionError:
        if check.func.__name__ not in STOCHASTIC:
            raise
        pytest.xfail(STOCHASTIC[check.func.__name__])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 4))
    return X, X @ [1.0, -2.0, 0.0, 3.0] + 5.0 + 0.1 * rng.standard_normal(600)


def test_defaults_are_scikit_learns():
    ours, theirs = DistributedSGDRegressor().get_params(), SGDRegressor().get_params()
    assert set(theirs) <= set(ours)
    assert {name for name in theirs if theirs[name] != ours[name]} == {"learning_rate"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("local_steps", 0),
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("learning_rate", "fast"),
        ("average", -1),
        ("variance_reduction", "saga"),
        ("eta0", 0.0),
        ("max_iter", 0),
        ("n_iter_no_change", 0),
        ("aggregation", "sum"),
    ],
)
def test_parameters_out_of_range_are_named(data, name, value):
    with pytest.raises(ValueError, match=f"'{name}' parameter of DistributedSGDRegressor"):
        DistributedSGDRegressor(**{name: value}).fit(*data)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"learning_rate": "constant"}, "learning_rate='auto'"),
        ({"local_steps": 3}, "local_steps=None"),
        ({"average": True}, "average=False"),
    ],
)
def test_variance_reduction_says_what_it_needs(data, parameters, named):
    with pytest.raises(ValueError, match=named):
        DistributedSGDRegressor(variance_reduction="svrg", **parameters).fit(*data)


def test_optimal_needs_alpha(data):
    with pytest.raises(ValueError, match="alpha must be > 0"):
        DistributedSGDRegressor(learning_rate="optimal", alpha=0.0).fit(*data)


@pytest.mark.parametrize("container", [np.asarray, sp.csr_array])
def test_divergence_names_the_remedy_and_leaves_the_estimator_alone(data, container):
    X, y = data
    model = DistributedSGDRegressor(learning_rate="constant", eta0=10.0, tol=None, max_iter=100)
    with pytest.raises(ValueError, match=r"diverged.*learning_rate='auto'"):
        model.fit(container(X), y)
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize("learning_rate", ["auto", "constant"])
def test_bad_numbers_in_a_chunk_are_found(data, learning_rate):
    X, y = data
    X = X.copy()
    X[450, 2] = np.nan
    chunked = da.from_array(X, chunks=(200, 4))
    with pytest.raises(ValueError, match=r"NaN.*chunk 2"):
        DistributedSGDRegressor(learning_rate=learning_rate).fit(chunked, y)


def test_weights_that_are_all_zero(data):
    X, y = data
    weight = da.zeros(len(y), chunks=200)
    for parameters in ({}, {"learning_rate": "constant"}):
        with pytest.raises(ValueError, match="weights sum to zero"):
            DistributedSGDRegressor(**parameters).fit(da.from_array(X, chunks=(200, 4)), y, weight)


@pytest.mark.parametrize("max_iter", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("loss", ["squared_error", "huber"])
def test_passes_are_counted(data, max_iter, loss):
    model = DistributedSGDRegressor(loss=loss, max_iter=max_iter, tol=None, random_state=0)
    model.fit(*data)
    # The least is a look at the columns (and the gradient there), steps, and a look at their end.
    assert model.n_iter_ <= max(max_iter, 4)
    assert model.n_iter_ <= model.n_rounds_
    plain = DistributedSGDRegressor(
        learning_rate="invscaling", max_iter=max_iter, tol=None, random_state=0
    ).fit(*data)
    assert plain.n_iter_ == max_iter == len(plain.loss_curve_)
    assert plain.t_ == max_iter * 600 + 1


def test_a_fit_that_was_cut_short_warns(data):
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        DistributedSGDRegressor(learning_rate="constant", eta0=1e-4, max_iter=2).fit(*data)
    model = DistributedSGDRegressor(random_state=0).fit(*data)
    assert model.converged_
    assert model.n_iter_ < 30


@pytest.mark.parametrize("learning_rate", ["auto", "adaptive", "constant"])
def test_early_stopping_scores_rows_that_no_step_has_seen(data, learning_rate):
    X, y = data
    # Fitted without noise, held-out rows would count as training rows only if they were seen.
    model = DistributedSGDRegressor(
        learning_rate=learning_rate, early_stopping=True, validation_fraction=0.3, random_state=0,
        max_iter=200,
    ).fit(X, y)  # fmt: skip
    assert model.converged_
    assert model.validation_scores_[-1] > 0.99
    assert len(model.validation_scores_) >= 2


def test_held_out_rows_do_not_matter():
    from dask_dml.blocks import Shard, frozen
    from dask_dml.solvers.sgd.row_order import Split, held_out_rows

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 3)), rng.standard_normal(300)
    model = DistributedSGDRegressor(
        early_stopping=True, validation_fraction=0.5, max_iter=9, tol=None, random_state=0,
        n_shards=1,
    )  # fmt: skip
    key = int(np.random.RandomState(0).randint(2**31 - 1))
    shard = Shard(0, (frozen(X, y[:, None], None, ()),))
    mask = held_out_rows(Split(key, 0.5), shard, 0, 300)
    assert mask.sum() == 150
    assert 50 < mask[::2].sum() < 100
    first = model.fit(X, y).coef_.copy()
    changed = y.copy()
    changed[mask] = 1e3
    np.testing.assert_allclose(model.fit(X, changed).coef_, first, rtol=1e-12)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1 / 3, 0.5, 0.7])
@pytest.mark.parametrize("n_rows", [1, 2, 3, 10, 11, 99])
def test_the_share_of_held_out_rows_is_exact(n_rows, fraction):
    from dask_dml.blocks import Shard, frozen
    from dask_dml.solvers.sgd.row_order import Split, held_out_rows

    shard = Shard(3, (frozen(np.zeros((n_rows, 1)), np.zeros((n_rows, 1)), None, ()),))
    split = Split(5, fraction)
    mask = held_out_rows(split, shard, 0, n_rows)
    wanted = np.ceil(n_rows * fraction - 1e-9) if n_rows > 1 else 0
    assert abs(mask.sum() - wanted) <= 1
    assert n_rows == 1 or 0 < mask.sum() < n_rows
    parts = [held_out_rows(split, shard, first, 1)[0] for first in range(n_rows)]
    np.testing.assert_array_equal(parts, mask)


def test_warm_start_goes_on(data):
    X, y = data
    model = DistributedSGDRegressor(warm_start=True, max_iter=5, tol=None, random_state=0)
    first = model.fit(X, y).loss_curve_
    second = model.fit(X, y).loss_curve_
    assert second[0] == pytest.approx(first[-1], rel=1e-6)
    assert second[-1] <= first[-1] * (1.0 + 1e-12)
    with pytest.raises(ValueError, match="warm_start=False"):
        model.fit(X[:, :2], y)


@pytest.mark.parametrize("parameters", [{}, {"learning_rate": "invscaling"}, {"average": True}])
@pytest.mark.parametrize("lazy", [False, True])
def test_partial_fits_learn_from_a_stream(data, parameters, lazy):
    X, y = data
    model = DistributedSGDRegressor(random_state=0, **parameters)
    for _ in range(4):
        for start in range(0, 600, 100):
            rows, target = X[start : start + 100], y[start : start + 100]
            if lazy:
                rows, target = da.from_array(rows, chunks=(50, 4)), da.from_array(target, chunks=50)
            assert model.partial_fit(rows, target) is model
    assert model.t_ == 2401
    assert model.score(X, y) > 0.98
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="output"):
        model.partial_fit(X, np.column_stack([y, y]))


def test_a_partial_fit_is_a_pass_of_a_schedule(data):
    X, y = data
    same = {"learning_rate": "invscaling", "shuffle": False, "n_shards": 1}
    whole = DistributedSGDRegressor(max_iter=2, tol=None, **same).fit(X, y)
    parts = DistributedSGDRegressor(**same)
    for _ in range(2):
        for start in range(0, 600, 200):
            parts.partial_fit(X[start : start + 200], y[start : start + 200])
    np.testing.assert_allclose(parts.coef_, whole.coef_, rtol=1e-12)
    assert parts.t_ == whole.t_


def test_partial_fit_refuses_early_stopping(data):
    with pytest.raises(ValueError, match="early_stopping=False"):
        DistributedSGDRegressor(early_stopping=True).partial_fit(*data)


def test_an_average_may_begin_late(data):
    X, y = data
    late = DistributedSGDRegressor(
        learning_rate="constant", average=601, max_iter=2, tol=None, n_shards=1, shuffle=False
    ).fit(X, y)
    first = DistributedSGDRegressor(
        learning_rate="constant", max_iter=1, tol=None, n_shards=1, shuffle=False
    ).fit(X, y)
    second = clone(first).set_params(average=True)
    second.partial_fit(X, y)  # from zero: only to see that it works
    assert not np.array_equal(late.coef_, first.coef_)
    assert np.abs(late.coef_ - [1.0, -2.0, 0.0, 3.0]).max() < 0.05


def test_no_intercept(data):
    X, y = data
    for parameters in ({}, {"learning_rate": "constant"}):
        model = DistributedSGDRegressor(fit_intercept=False, random_state=0, **parameters)
        assert model.fit(X, y - 5.0).intercept_ == 0.0
        np.testing.assert_allclose(model.coef_, [1.0, -2.0, 0.0, 3.0], atol=0.05)


def test_a_fitted_estimator_is_plain(data):
    X, y = data
    model = DistributedSGDRegressor(random_state=0).fit(da.from_array(X, chunks=(200, 4)), y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert type(model.coef_) is np.ndarray


def test_nodes_that_count_the_same(data):
    X, y = data
    sizes = (500, 100)
    dX, dy = da.from_array(X, chunks=(sizes, (4,))), da.from_array(y, chunks=(sizes,))
    weight = np.r_[np.full(500, 1 / 500), np.full(100, 1 / 100)]
    same = {"max_iter": 40, "tol": None, "random_state": 0, "n_shards": "blocks"}
    uniform = DistributedSGDRegressor(aggregation="uniform", **same).fit(dX, dy)
    weighted = DistributedSGDRegressor(**same).fit(dX, dy, weight)
    np.testing.assert_allclose(uniform.coef_, weighted.coef_, rtol=1e-7)


def test_messages(data, capsys):
    DistributedSGDRegressor(verbose=1, max_iter=5, tol=None).fit(*data)
    assert "[DistributedSGDRegressor] pass 3" in capsys.readouterr().out


def test_l1_ratio_may_be_left_out_where_it_is_not_read(data):
    plain = DistributedSGDRegressor(random_state=0).fit(*data)
    model = DistributedSGDRegressor(l1_ratio=None, random_state=0).fit(*data)
    np.testing.assert_array_equal(model.coef_, plain.coef_)
    with pytest.raises(ValueError, match="l1_ratio must be set when penalty is 'elasticnet'"):
        DistributedSGDRegressor(penalty="elasticnet", l1_ratio=None).fit(*data)


def test_steps_may_become_longer(data):
    """A negative exponent, as of scikit-learn: ``eta0 * t**0.1``."""
    X, y = data
    same = {"learning_rate": "invscaling", "power_t": -0.1, "eta0": 1e-3, "alpha": 0.0}
    model = DistributedSGDRegressor(**same, n_shards=1, shuffle=False, max_iter=1, tol=None)
    w, b = np.zeros(4), 0.0
    for t, (x, target) in enumerate(zip(X, y, strict=True), start=1):
        step = 1e-3 * t**0.1 * (target - x @ w - b)
        w, b = w + step * x, b + step
    np.testing.assert_allclose(model.fit(X, y).coef_, w, rtol=1e-9)
    assert model.intercept_ == pytest.approx(b)


def test_a_start_may_be_given(data):
    X, y = data
    exact = DistributedSGDRegressor(tol=None, max_iter=40, random_state=0).fit(X, y)
    model = DistributedSGDRegressor(random_state=0)
    started = model.fit(X, y, coef_init=exact.coef_, intercept_init=[exact.intercept_])
    assert started.loss_curve_[0] == pytest.approx(exact.loss_curve_[-1], rel=1e-9)
    model.set_params(learning_rate="constant", eta0=1e-12, max_iter=1, tol=None)
    model.fit(X, y, coef_init=[1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(model.coef_, [1.0, 2.0, 3.0, 4.0], rtol=1e-6)
    assert abs(model.intercept_) < 1e-6
    Y = np.column_stack([y, y])
    model.fit(X, Y, coef_init=np.ones((2, 4)), intercept_init=[5.0, 6.0])
    np.testing.assert_allclose(model.intercept_, [5.0, 6.0], rtol=1e-6)
    for wrong in (np.ones(3), np.ones((2, 4)), [1.0, np.nan, 0.0, 0.0]):
        with pytest.raises(ValueError, match="coef_init has to hold finite numbers"):
            model.fit(X, y, coef_init=wrong)
    with pytest.raises(ValueError, match="intercept_init needs fit_intercept=True"):
        model.set_params(fit_intercept=False).fit(X, y, intercept_init=1.0)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_single_column_of_targets_is_one_target(data, method):
    X, y = data
    model = getattr(DistributedSGDRegressor(random_state=0), method)(X, y[:, None])
    assert model.coef_.shape == (4,)
    assert model.predict(X).shape == (600,)
    assert getattr(model, method)(X, y).coef_.shape == (4,)
