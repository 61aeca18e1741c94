"""Same data, same answer: chunkings, containers, engines, workers, nodes, weights."""

from itertools import pairwise

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import reference
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml import DistributedGDRegressor

N, P = 90, 3
X, Y, WEIGHT = reference.table(N, P, seed=21)
X = np.where(np.abs(X) > 0.5, X, 0.0)

#: Exact ones agree to 1e-8 in the coefficients, the others to tol in the objective.
EXACT = [
    {"alpha": 0.01},
    {"penalty": "l1", "alpha": 0.05},
    {"penalty": None},
    {"solver": "gd", "learning_rate": "constant", "eta0": 0.01, "max_iter": 8, "tol": 0.0},
    {"solver": "gd", "loss": "huber", "learning_rate": "invscaling", "max_iter": 5, "tol": 0.0,
     "momentum": 0.5},
]  # fmt: skip
ITERATIVE = [
    {"loss": "huber", "penalty": "l1", "alpha": 0.02},
    {"loss": "squared_epsilon_insensitive", "alpha": 0.1},
    {"solver": "accelerated", "penalty": "elasticnet", "alpha": 0.1},
    {"loss": "epsilon_insensitive", "alpha": 0.1},
]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: Up to 50 chunks, empty ones among them.
chunkings = st.lists(st.integers(0, N), max_size=49).map(
    lambda cuts: tuple(np.diff([0, *sorted(cuts), N]).tolist())
)
LOCAL = {str(params): DistributedGDRegressor(**params) for params in EXACT + ITERATIVE}


def local(params):
    model = LOCAL[str(params)]
    return model if hasattr(model, "coef_") else model.fit(X, Y, WEIGHT)


def objective(model, params):
    known = {k: v for k, v in params.items() if k in reference.DEFAULTS}
    return reference.objective(X, Y, model.coef_, model.intercept_, WEIGHT, **known)


def assert_agrees(model, params):
    expected = local(params)
    if params in EXACT:
        scale = np.abs(expected.coef_).max()
        np.testing.assert_allclose(model.coef_, expected.coef_, atol=1e-8 * scale, rtol=0)
        assert model.intercept_ == pytest.approx(expected.intercept_, rel=1e-8)
        assert model.n_rounds_ == expected.n_rounds_
    else:
        assert objective(model, params) == pytest.approx(objective(expected, params), rel=1e-6)


def as_array(sizes, *, sparse=False, seed=None):
    array = da.from_array(X, chunks=(sizes, P))
    if seed:
        array = da.concatenate([array[:, :1], array[:, 1:]], axis=1)  # chunks of columns
    return array.map_blocks(sp.csr_array) if sparse else array


def as_frame(sizes):
    bounds = np.cumsum((0, *sizes))
    frame = pd.DataFrame(X, columns=list("abc"))
    parts = [dask.delayed(frame.iloc[low:high]) for low, high in pairwise(bounds)]
    return dd.from_delayed(parts, meta=frame.iloc[:0], verify_meta=False)


CONTAINERS = {
    "array": as_array,
    "array of column chunks": lambda sizes: as_array(sizes, seed=1),
    "array of CSR": lambda sizes: as_array(sizes, sparse=True),
    "frame": as_frame,
}


@settings(max_examples=5)
@given(sizes=chunkings, other=chunkings, container=st.sampled_from(sorted(CONTAINERS)))
@pytest.mark.parametrize("params", EXACT + ITERATIVE, ids=str)
def test_chunks_and_containers_without_a_cluster(params, sizes, other, container):
    y = da.from_array(Y, chunks=(other,))
    if container == "frame" and len(other) == len(sizes):
        y = Y  # equally many chunks of unknown and of known size count as aligned
    model = DistributedGDRegressor(**params)
    with dask.config.set(scheduler="synchronous"):
        model.fit(CONTAINERS[container](sizes), y, WEIGHT)
    assert_agrees(model, params)


@settings(max_examples=3)
@given(
    sizes=chunkings,
    container=st.sampled_from(sorted(CONTAINERS)),
    n_shards=st.sampled_from([None, 1, 3, "blocks"]),
)
@pytest.mark.parametrize("params", [EXACT[0], EXACT[1], EXACT[3], ITERATIVE[0]], ids=str)
def test_chunks_and_nodes_on_a_cluster(client, params, sizes, container, n_shards):
    model = DistributedGDRegressor(n_shards=n_shards, **params)
    aligned = container != "frame"
    # Beside a frame, as many dask chunks of other sizes would be an error.
    y = da.from_array(Y, chunks=(sizes,)) if aligned else Y
    weight = da.from_array(WEIGHT, chunks=30) if aligned else WEIGHT
    model.fit(CONTAINERS[container](sizes), y, weight)
    assert_agrees(model, params)


@pytest.mark.parametrize("params", EXACT + ITERATIVE, ids=str)
@pytest.mark.parametrize("container", ["frame", "csr", "csc", "csr_matrix", "list", "fortran"])
def test_containers_in_memory(params, container):
    make = {
        "frame": lambda: pd.DataFrame(X, columns=list("abc")),
        "csr": lambda: sp.csr_array(X),
        "csc": lambda: sp.csc_array(X),
        "csr_matrix": lambda: sp.csr_matrix(X),
        "list": X.tolist,
        "fortran": lambda: np.asfortranarray(X),
    }[container]
    y = pd.Series(Y) if container == "frame" else Y
    assert_agrees(DistributedGDRegressor(**params).fit(make(), y, WEIGHT), params)


@pytest.mark.parametrize("params", EXACT, ids=str)
@pytest.mark.parametrize("n_shards", [1, 2, 7, 90])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_nodes_and_threads_in_memory(params, n_shards, n_jobs):
    model = DistributedGDRegressor(n_shards=n_shards, n_jobs=n_jobs, **params)
    assert_agrees(model.fit(X, Y, WEIGHT), params)


def test_processes_agree_with_threads(process_client):
    for params in (EXACT[0], EXACT[3], ITERATIVE[0]):
        model = DistributedGDRegressor(**params)
        assert_agrees(model.fit(as_array((20, 50, 0, 20)), Y, WEIGHT), params)


@pytest.mark.parametrize("params", [*EXACT, *ITERATIVE[:2]], ids=str)
@pytest.mark.parametrize("aggregation", ["weighted", "uniform"])
def test_the_same_nodes_give_the_same_bits(client, params, aggregation):
    data = as_array((5, 40, 0, 30, 15))
    fits = [
        DistributedGDRegressor(n_shards=3, aggregation=aggregation, **params).fit(data, Y, WEIGHT)
        for _ in range(2)
    ]
    with dask.config.set(scheduler="synchronous"), client_less():
        fits.append(
            DistributedGDRegressor(n_shards=3, aggregation=aggregation, **params).fit(
                data, Y, WEIGHT
            )
        )
    for other in fits[1:]:
        np.testing.assert_array_equal(other.coef_, fits[0].coef_)
        assert other.intercept_ == fits[0].intercept_
        assert other.loss_curve_ == fits[0].loss_curve_


def client_less():
    """Make the fit inside believe that there is no client."""
    return _NoClient()


class _NoClient:
    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("dask_dml.rounds.choose.current_client", lambda: None)

    def __exit__(self, *exc_info):
        self.patch.undo()


@pytest.mark.parametrize("params", EXACT + ITERATIVE, ids=str)
def test_weights_are_repeated_rows(params):
    repeats = np.random.default_rng(0).integers(0, 4, N)
    weighted = DistributedGDRegressor(**params).fit(X, Y, repeats.astype(float))
    repeated = DistributedGDRegressor(**params).fit(np.repeat(X, repeats, 0), np.repeat(Y, repeats))
    deleted = DistributedGDRegressor(**params).fit(
        X[repeats > 0], Y[repeats > 0], repeats[repeats > 0]
    )
    scaled = DistributedGDRegressor(**params).fit(X, Y, 0.25 * repeats)
    tolerance = 1e-8 if params in EXACT else 1e-3
    scale = np.abs(weighted.coef_).max()
    for other in (repeated, deleted, scaled):
        np.testing.assert_allclose(other.coef_, weighted.coef_, atol=tolerance * scale, rtol=0)
        assert other.loss_curve_[-1] == pytest.approx(weighted.loss_curve_[-1], rel=1e-6)


def test_a_number_as_weight_weighs_all_rows_alike():
    for data in (X, as_array((40, 50))):
        with dask.config.set(scheduler="synchronous"):
            model = DistributedGDRegressor().fit(data, Y, sample_weight=3.0)
        np.testing.assert_allclose(model.coef_, DistributedGDRegressor().fit(X, Y).coef_)


def test_two_outputs_in_every_container(client):
    two = np.column_stack([Y, -2 * Y + X[:, 0]])
    expected = DistributedGDRegressor().fit(X, two)
    assert expected.coef_.shape == (2, P)
    frame = as_frame((30, 60))
    targets = dd.from_pandas(pd.DataFrame(two, columns=["u", "v"]), npartitions=1).repartition(
        divisions=(0, 30, 89), force=True
    )
    for data, y in [
        (as_array((30, 0, 60)), da.from_array(two, chunks=(45, 1))),
        (frame, targets),
        (frame, two),
    ]:
        model = DistributedGDRegressor().fit(data, y)
        np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
        np.testing.assert_allclose(model.intercept_, expected.intercept_, rtol=1e-9)


def test_float32_stays_float32(client):
    single = X.astype(np.float32)
    expected = DistributedGDRegressor().fit(single, Y)
    model = DistributedGDRegressor().fit(da.from_array(single, chunks=(20, P)), Y)
    np.testing.assert_allclose(model.coef_, expected.coef_, rtol=1e-9)
    assert model.coef_.dtype == np.float64
    assert model.predict(da.from_array(single, chunks=(20, P))).dtype == np.float32
