from dask_dml.rounds.balance import FIRST_ROUNDS, Balance


def told(*times, rounds=20):
    balance = Balance()
    seconds = {f"w{n}": time for n, time in enumerate(times)}
    lines = [balance.add(seconds) for _ in range(rounds)]
    return [line for line in lines if line is not None]


def test_a_slow_worker_is_named_once():
    (line,) = told(0.1, 0.1, 0.5)
    assert line.startswith("Worker w2 has taken 2.5 s")
    assert "0.5 s on average" in line


def test_nothing_is_said_of_equal_short_or_single_workers():
    assert not told(0.5, 0.5, 0.6)
    assert not told(0.001, 0.01)
    assert not told(3.0)
    assert not told(0.1, 2.0, rounds=FIRST_ROUNDS)


def test_other_workers_begin_anew():
    balance = Balance()
    for _ in range(20):
        balance.add({"a": 0.1, "b": 0.15})
    for _ in range(FIRST_ROUNDS):
        assert balance.add({"a": 1.0, "c": 90.0}) is None
    assert balance.add({"a": 1.0, "c": 90.0}).startswith("Worker c")
