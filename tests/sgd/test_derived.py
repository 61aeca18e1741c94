"""Values that live as long as the block that they come from."""

import gc
import weakref

import numpy as np
import pytest
import scipy.sparse as sp

from dask_dml.blocks import Shard, frozen
from dask_dml.derived import derived
from dask_dml.kernels.sgd_rows import CONSTANT, CORRECTED, CORRECTED_SQUARES, PLAIN
from dask_dml.objective.losses import make_loss
from dask_dml.solvers.sgd.local_steps import Visit, Wants
from dask_dml.solvers.sgd.node_cache import Ground, Request, on_node
from dask_dml.solvers.sgd.passes import visit
from dask_dml.solvers.sgd.row_order import stretches


def block_of(X, y=None):
    return frozen(X, np.zeros((X.shape[0], 1)) if y is None else y[:, None], None, ())


class Value:
    """Something that a weak reference can point to."""


def test_a_value_is_computed_once_per_key_and_block():
    first, second = (block_of(np.ones((3, 2))) for _ in range(2))
    value = derived(first, "a", Value)
    assert derived(first, "a", Value) is value
    assert derived(first, ("a", 1), Value) is not value
    assert derived(second, "a", Value) is not value
    assert derived(first, "a", Value) is value


def test_a_value_goes_with_its_block():
    block = block_of(np.ones((3, 2)))
    values = [weakref.ref(derived(block, key, Value)) for key in ("a", "b")]
    gc.collect()
    assert all(value() is not None for value in values)
    del block
    gc.collect()
    assert all(value() is None for value in values)


def test_another_block_in_the_same_place_has_values_of_its_own():
    for number in range(50):
        # Freed memory is used again, so that identities come back.
        block = block_of(np.full((2, 2), float(number)))
        assert derived(block, "number", lambda n=number: [n]) == [number]
        del block


def test_an_error_leaves_nothing_behind():
    block = block_of(np.ones((3, 2)))

    def failing():
        raise LookupError("not now")

    with pytest.raises(LookupError, match="not now"):
        derived(block, "a", failing)
    assert derived(block, "a", lambda: 5) == 5


def visit_of(kind, width, n_steps):
    rng = np.random.default_rng(1)
    point = rng.standard_normal((2, width + 1))
    return Visit(
        point=point,
        gradient=None if kind == PLAIN else rng.standard_normal((2, width + 1)),
        kind=kind,
        literal=False,
        column=np.arange(2),
        parameters=np.array([make_loss("huber", 0.5).parameters(0.0)] * 2),
        schedule=np.tile([CONSTANT, 0.01, 0.0, 0.0, 0.0], (2, 1)),
        l2=np.array([0.1, 0.2]),
        l1=np.array([0.0, 0.01]),
        target_mean=np.zeros(2),
        batch=1,
        n_steps=n_steps,
        shuffle=True,
        key=5,
        epoch=1,
        rows_before=0,
        tail=0.5,
        wants=Wants(last=True, mean=True, zeros=True),
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("n_steps", [None, 70])
@pytest.mark.parametrize("kind", [PLAIN, CORRECTED_SQUARES, CORRECTED])
@pytest.mark.parametrize("n_blocks", [3, 40])
def test_several_chunks_per_node_give_the_bits_of_one(n_blocks, kind, n_steps, sparse, weighted):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 7))
    if sparse:
        X *= rng.random(X.shape) < 0.5
        X[:, 4] = 0.0
    # Sums of such weights are exact, however the chunks are cut.
    y, weight = rng.standard_normal((200, 2)), rng.integers(1, 9, 200) / 8.0
    container = sp.csr_array if sparse else np.ascontiguousarray
    # Nodes renumber their columns, unless rows are dense.
    columns = np.array([0, 1, 2, 3, 5, 6]) if sparse else None
    width = 6 if sparse else 7
    ground = Ground(np.zeros(width), np.append(rng.random(width), 1.0), columns, None)
    request = Request(visit, visit_of(kind, width, n_steps), False, None, ground)

    def models(parts):
        blocks = [
            frozen(container(X[i]), y[i], weight[i] if weighted else None, ())
            for i in np.array_split(np.arange(200), parts)
        ]
        shard = Shard(3, tuple(blocks))
        memory, first = on_node(shard, None, request)
        # The second time, the node finds what it has made of its chunks.
        _, second = on_node(shard, memory, request)
        return first, second

    expected = models(1)[0]
    assert np.all(np.isfinite(expected.last))
    for found in models(n_blocks):
        for name in ("last", "mean", "weights", "support"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)


def test_a_node_keeps_rows_of_several_chunks_for_the_next_visit():
    X, y = np.random.default_rng(0).standard_normal((2, 100, 2))
    shard = Shard(0, tuple(frozen(X[i], y[i], None, ()) for i in np.split(np.arange(100), 2)))
    seeds = np.random.SeedSequence(1)
    first, second = (next(iter(stretches(shard, seeds, shuffle=True)))[0] for _ in range(2))
    assert first is second
    kept = weakref.ref(first)
    del first, second, shard
    gc.collect()
    assert kept() is None
