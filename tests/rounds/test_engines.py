"""What all engines have in common, and how one is chosen."""

from __future__ import annotations

import threading

import dask
import numpy as np
import pytest
import scipy.sparse as sp
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from dask_dml.blocks import frozen, slice_rows
from dask_dml.rounds import open_rounds
from dask_dml.rounds.choose import LOCAL_SHARE, count_threads
from dask_dml.rounds.cluster import ClusterRounds
from dask_dml.rounds.local import LocalRounds
from dask_dml.rounds.streaming import StreamingRounds
from tests.patience import within

from . import helpers

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 3))
WHOLE = RNG.integers(-8, 8, (600, 3)).astype(float)  # sums of integers are exact


def engines(client, chunks, n_shards):
    with dask.config.set(scheduler="threads"):
        from dask_dml.rounds.choose import _fetch_or_stream

        yield _fetch_or_stream(chunks, None, n_shards, 2)
    yield StreamingRounds(chunks, None, n_shards, 2)
    yield ClusterRounds(client, chunks, n_shards)
    yield StreamingRounds(chunks, client, n_shards)


def run(rounds):
    with rounds:
        updates = [rounds.update(helpers.counting, factor) for factor in (1.0, 2.0, 3.0)]
        numbers = sorted(
            {
                (shard, chunk)
                for shard, here in rounds.map_reduce(helpers.numbered)
                for chunk in here
            }
        )
        return rounds.shard_rows, numbers, rounds.map_reduce(helpers.column_sums), updates


@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(0, 600), min_size=1, max_size=12).map(sorted),
    n_shards=st.sampled_from([1, 3, "blocks"]),
)
def test_all_engines_agree(client, cuts, n_shards):
    results = [
        run(rounds) for rounds in engines(client, helpers.to_chunks(WHOLE, WHOLE, cuts), n_shards)
    ]
    for rows, numbers, sums, updates in results:
        assert (rows, numbers) == results[0][:2]
        assert np.array_equal(sums, WHOLE.sum(axis=0))
        assert updates == [600.0, 2 * 2 * 600.0, 3 * 3 * 600.0]


def test_fixed_shards_give_the_same_bits_anywhere(client, process_cluster):
    cuts = list(range(40, 600, 40))
    chunks = helpers.to_chunks(X, X, cuts)
    results = [run(ClusterRounds(client, chunks, 5))[2]]
    with process_cluster.as_current():
        results.append(run(ClusterRounds(process_cluster, chunks, 5))[2])
    # All on one worker at first: the shards move, the sum does not.
    one = next(iter(client.nthreads()))
    held = helpers.to_chunks(X, X, cuts)
    held.X[:] = [dask.delayed(f) for f in client.compute(held.X, workers=[one])]
    results.append(run(ClusterRounds(client, held, 5))[2])
    assert all(np.array_equal(result, results[0]) for result in results)


def test_small_blocks_are_merged(client):
    with ClusterRounds(client, helpers.to_chunks(X, X, list(range(5, 600, 5)))) as rounds:
        assert sum(map(len, rounds.map_reduce(helpers.block_sizes))) <= 4
        # Dask drops the small ones some time after they have been let go of.
        assert within(5, lambda: _held(client) <= 6)
        assert np.allclose(rounds.map_reduce(helpers.column_sums), X.sum(axis=0))


def _held(client):
    return sum(len(keys) for keys in client.has_what().values())


def test_merging_never_makes_one_block_of_everything(client):
    chunks = helpers.to_chunks(X, X, list(range(5, 600, 5)))
    with ClusterRounds(client, chunks, 1) as rounds:
        (sizes,) = rounds.map_reduce(helpers.block_sizes)
    assert sum(sizes) == len(X)
    assert max(sizes) <= len(X) / 2


def test_many_chunks_are_read_in_groups(client, monkeypatch):
    monkeypatch.setattr("dask_dml.rounds.plan.MANY_CHUNKS", 5)
    chunks = helpers.to_chunks(WHOLE, WHOLE, list(range(30, 600, 30)), np.ones(600))
    results = [run(rounds) for rounds in engines(client, chunks, 3)]
    for rows, numbers, sums, _ in results:
        assert (rows, numbers) == results[0][:2]
        assert np.array_equal(sums, WHOLE.sum(axis=0))


@pytest.mark.parametrize("lazy", [False, True])
def test_no_rows(client, lazy):
    empty = helpers.to_chunks(X[:0], X[:0], [0, 0], lazy=lazy)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        open_rounds(empty)
    with pytest.raises(ValueError, match=r"Found array with 0 sample\(s\)"):
        StreamingRounds(helpers.to_chunks(X[:0], X[:0], [0]))


class Unlucky(Exception):
    """What a user's own code raises."""


def bad_chunk(n_chunks, bad):
    def fail(value):
        raise Unlucky("no luck")

    chunks = helpers.to_chunks(X, X, list(range(20, 20 * n_chunks, 20)))
    chunks.X[bad] = dask.delayed(fail)(chunks.X[bad])
    return chunks


def test_a_failing_chunk(client):
    chunks = bad_chunk(12, 7)
    makers = [
        lambda: open_rounds(chunks),
        lambda: StreamingRounds(chunks, client),
        lambda: StreamingRounds(chunks),
    ]
    for make in makers:
        with pytest.raises(Unlucky, match="no luck") as caught:
            make()
        assert any("chunk 7 of the input" in note for note in caught.value.__notes__)
        helpers.wait_for_release(client)


def test_a_failing_function(client):
    chunks = helpers.to_chunks(X, X, [100, 200, 300])
    for rounds in engines(client, chunks, 4):
        with rounds:
            with pytest.raises(LookupError, match="no such thing") as caught:
                rounds.map_reduce(helpers.failing, 2)
            text = " ".join(caught.value.__notes__)
            assert "shard 2" in text or "chunk 2" in text
            # The engine is as good as before, and a failed update has not happened.
            assert rounds.update(helpers.counting, 1.0) == 600
            with pytest.raises(LookupError):
                rounds.update(helpers.failing_update, 2)
            assert rounds.update(helpers.counting, 1.0) == 1200
            assert rounds.n_rounds == 2


def test_unpicklable_errors_come_through(process_client):
    with (
        ClusterRounds(process_client, helpers.to_chunks(X, X, [300])) as rounds,
        pytest.raises(RuntimeError, match="Stubborn: mine"),
    ):
        rounds.map_reduce(helpers.stubborn)


def test_timeout(client):
    with (
        ClusterRounds(client, helpers.to_chunks(X, X, [300])) as rounds,
        dask.config.set({"dask_dml.round-timeout": "100ms"}),
    ):
        with pytest.raises(TimeoutError, match=r"dask_dml\.round-timeout"):
            rounds.map_reduce(helpers.slow_sums, 0.6)
        with dask.config.set({"dask_dml.round-timeout": "5m"}):
            assert np.allclose(rounds.map_reduce(helpers.column_sums), X.sum(axis=0))


@pytest.mark.parametrize("when", ["placement", "round"])
def test_interrupt(client, when):
    """Ctrl-C anywhere leaves a clean cluster and a usable client."""
    chunks = helpers.to_chunks(X, X, [100, 200, 300])
    if when == "placement":
        slow = dask.delayed(helpers.slow_identity, pure=False)
        chunks.X[:] = [slow(entry, 0.3) for entry in chunks.X]
        with helpers.interrupt(0.2), pytest.raises(KeyboardInterrupt):
            open_rounds(chunks)
    else:
        with (
            pytest.raises(KeyboardInterrupt),
            open_rounds(chunks) as rounds,
            helpers.interrupt(0.2),
        ):
            rounds.map_reduce(helpers.slow_sums, 0.6)
    helpers.wait_for_release(client)
    assert client.submit(sum, [1, 2]).result() == 3


def test_nothing_is_left(client):
    chunks = helpers.to_chunks(X, X, [100, 200, 300])
    for rounds in engines(client, chunks, 2):
        with rounds:
            rounds.update(helpers.counting, 1.0)
        rounds.close()
        assert not any(client.has_what().values())
        with pytest.raises(RuntimeError, match="closed"):
            rounds.map_reduce(helpers.column_sums)
    helpers.wait_for_release(client)


def test_two_fits_at_once(client):
    results = {}

    def fit(number):
        with ClusterRounds(client, helpers.to_chunks(X + number, X, [200, 400]), 2) as rounds:
            results[number] = [rounds.map_reduce(helpers.column_sums) for _ in range(20)]

    threads = [threading.Thread(target=fit, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, sums in results.items():
        assert all(np.allclose(each, (X + number).sum(axis=0)) for each in sums)


def test_blas_threads_are_given_back():
    import threadpoolctl

    def counts():
        return [library["num_threads"] for library in threadpoolctl.threadpool_info()]

    before = counts()
    with open_rounds(helpers.to_chunks(X, X, [], lazy=False), n_shards=2, n_jobs=2) as rounds:
        assert set(rounds.map_reduce(helpers.blas_threads)) == {1}
        assert counts() == before
    assert counts() == before


def test_input_in_memory_is_cut_by_rows_without_a_copy():
    data = X.copy()
    with open_rounds(helpers.to_chunks(data, data[:, 0], [], lazy=False), n_shards=7) as rounds:
        assert rounds.shard_rows == (85, 86, 86, 85, 86, 86, 86)
        assert all(np.shares_memory(s.blocks[0].X, data) for s in rounds.shards)
        assert np.allclose(rounds.map_reduce(helpers.column_sums), X.sum(axis=0))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array])
def test_slices_know_their_rows(kind):
    table = kind(np.arange(40.0).reshape(20, 2))
    block = frozen(table, np.arange(20.0)[:, None], np.arange(20.0), ((3, 8), (5, 12)))
    part = slice_rows(slice_rows(block, 2, 18), 3, 10)
    rows = part.X.toarray() if part.is_sparse else part.X
    assert np.array_equal(rows[:, 0], np.arange(10.0, 24.0, 2.0))
    assert np.array_equal(part.weight, np.arange(5.0, 12.0))
    assert [part.locate(row) for row in range(7)] == [block.locate(row + 5) for row in range(7)]


def test_choice_of_engine(client, monkeypatch):
    chunks = helpers.to_chunks(X, X, [300])

    def name(**options):
        with open_rounds(chunks, **options) as rounds:
            return type(rounds).__name__

    assert name() == "ClusterRounds"
    monkeypatch.setattr("dask_dml.rounds.choose.cluster_memory", lambda client: 1000.0)
    assert name() == "StreamingRounds"
    in_memory = helpers.to_chunks(X, X, [], lazy=False)
    with open_rounds(in_memory) as rounds:
        assert isinstance(rounds, LocalRounds)
        assert len(rounds.shard_rows) == 1  # too small for a second thread


def test_choice_without_a_client(monkeypatch):
    chunks = helpers.to_chunks(X, X, [300])
    with pytest.raises(ValueError, match="No clients found"):
        Client.current()
    with open_rounds(chunks) as rounds:
        assert isinstance(rounds, LocalRounds)
    monkeypatch.setattr("dask_dml.rounds.choose.LOCAL_SHARE", 1e-9)
    with open_rounds(chunks) as rounds:
        assert isinstance(rounds, StreamingRounds)
    # Data of unknown size shows only while it is read that it does not fit.
    with open_rounds(helpers.of_unknown_size(chunks)) as rounds:
        assert isinstance(rounds, StreamingRounds)


@pytest.mark.parametrize("room", [0.5, 1e-9])
def test_inside_a_task(process_client, room):
    """A fit on dask data inside a task of the same cluster, on all of its threads at once.

    In processes of their own: the client of a worker in this one would be the default from here on.
    """
    process_client.run(helpers.set_local_share, room)
    futures = process_client.map(helpers.fit_in_task, range(4), pure=False)
    results = process_client.gather(futures)
    process_client.run(helpers.set_local_share, LOCAL_SHARE)
    for name, total in results:
        assert name == ("LocalRounds" if room == 0.5 else "StreamingRounds")
        assert total == 600.0
    del futures


def test_threads():
    assert count_threads(1) == 1
    assert count_threads(3) == 3
    assert count_threads(None) >= 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        count_threads(0)


def test_asynchronous_clients_are_refused():
    import asyncio

    async def fit():
        async with Client(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0", asynchronous=True
        ):
            open_rounds(helpers.to_chunks(X, X, [300]))

    with pytest.raises(ValueError, match="asynchronous=False"):
        asyncio.run(fit())


def test_states_outlive_their_lineage(client, monkeypatch):
    monkeypatch.setattr("dask_dml.rounds.streaming.UPDATES_PER_LINEAGE", 2)
    with StreamingRounds(helpers.to_chunks(X, X, [300]), client) as rounds:
        for n in range(1, 6):
            assert rounds.update(helpers.counting, 1.0) == 600.0 * n


def test_a_busy_cluster_does_not_stop_a_fit(client):
    """The tasks that hold the workers may have to wait for a thread; the rounds do not."""
    with ClusterRounds(client, helpers.to_chunks(X, X, [300])) as rounds:
        helpers.GATE.clear()
        busy = client.map(helpers.wait_at_gate, range(2), pure=False)
        try:
            rounds.map_reduce(helpers.column_sums)
            assert not any(one.done() for one in busy)
        finally:
            helpers.GATE.set()


def test_what_is_sent_along_is_sent_again(client, monkeypatch):
    """In bounded numbers: the worker that it is sent to may go down every time."""
    X = np.arange(40.0).reshape(20, 2)
    rounds = StreamingRounds(helpers.to_chunks(X, X[:, 0], [5, 10]), client)
    scatter, failures = client.scatter, []

    def failing(*args, **kwargs):
        if len(failures) < limit:
            failures.append(1)
            raise OSError("Stream is closed")
        return scatter(*args, **kwargs)

    monkeypatch.setattr(client, "scatter", failing)
    with rounds:
        limit = 5
        assert np.array_equal(rounds.map_reduce(helpers.column_sums), X.sum(axis=0))
        assert rounds.n_recoveries == 5
        failures.clear()
        limit = 99
        with pytest.raises(RuntimeError, match=r"lost 6 times in the same pass.*max-recoveries"):
            rounds.map_reduce(helpers.column_sums)
