"""Fits that another process can take up again: what is written, and what it has to match."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from dask_dml.estimators.parameters import COUNT, NON_NEGATIVE, NONE, Either, Kind

#: Parameters that say nothing of the result.
_NEUTRAL = {"checkpoint", "callbacks", "max_time", "n_jobs", "verbose"}
_HASHED = ("X", "y", "sample_weight")


@dataclass(frozen=True)
class Checkpoint:
    """Where a fit saves its progress, and how often.

    Parameters
    ----------
    url : str or os.PathLike
        A folder for this fit alone: a path, or a URL that fsspec can open, such as
        ``"s3://bucket/fit"``.  It is created if it does not exist.
    seconds : float, default=60.0
        Seconds between two saves.
    rounds : int or None, default=None
        Number of rounds of the cluster between two saves.  Progress is saved after `seconds` or
        `rounds`, whichever comes first.  None counts seconds only.

    Examples
    --------
    >>> from dask_dml import Checkpoint, DistributedGDRegressor
    >>> model = DistributedGDRegressor(checkpoint=Checkpoint("my-fit", seconds=300))
    """

    url: str | os.PathLike[str]
    seconds: float = 60.0
    rounds: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.url, str | os.PathLike) or not os.fspath(self.url):
            raise ValueError(f"url has to be a path or a URL, got {self.url!r}")
        if not NON_NEGATIVE.accepts(self.seconds):
            raise ValueError(f"seconds has to be {NON_NEGATIVE}, got {self.seconds!r}")
        if self.rounds is not None and not COUNT.accepts(self.rounds):
            raise ValueError(f"rounds has to be {COUNT} or None, got {self.rounds!r}")


#: Constraint of the parameter ``checkpoint``.
CHECKPOINT = Either(
    (
        Kind((str, os.PathLike, Checkpoint), "a path, a URL or a Checkpoint"),
        NONE,
    )
)


@contextmanager
def open_recorded(
    estimator: Any, chunks: Any, deadline: float, *start: Any
) -> Iterator[tuple[Any, np.random.RandomState]]:
    """Open rounds over the data, recorded where the estimator has a checkpoint.

    Parameters
    ----------
    estimator : estimator
        Its parameters tell its fit from others.
    chunks : Chunks
        The data.
    deadline : float
        `time.monotonic` value after which the fit ends, converged or not.
    *start : ndarray or None
        Where the fit starts.

    Yields
    ------
    rounds : Rounds
        The data.
    random_state : RandomState
        The estimator's; the same in a fit that is taken up again.

    Raises
    ------
    ValueError
        If the checkpoint is damaged, or one of another fit.
    OSError
        If it cannot be written.
    """
    from dask_dml.rounds import open_rounds

    options = {"n_shards": estimator._wanted_shards(), "n_jobs": estimator.n_jobs}
    if estimator.checkpoint is None:
        with open_rounds(chunks, **options) as rounds:
            yield rounds, check_random_state(estimator.random_state)
        return
    from dask_dml.passes.fingerprint import fingerprint
    from dask_dml.rounds.journal import RecordedRounds
    from dask_dml.rounds.layout import Layout

    journal = _open_journal(estimator, chunks, start)
    # The first thing that is written down: shards have to be the same ones again.
    known = journal.recall("rows")
    if known is not None:
        options["n_shards"] = Layout(_shards(known[0].pieces))
    with open_rounds(chunks, **options) as rounds:
        _compare_rows(journal, known, rounds.map_reduce(fingerprint))
        try:
            yield RecordedRounds(rounds, journal), _random_state(estimator, journal)
        except BaseException:
            journal.finish(keep=True)
            raise
        if not estimator.converged_ and time.monotonic() > deadline:
            # While there still are nodes that can be asked for what they keep.
            journal.write()
            return
    journal.finish(keep=False)


def _open_journal(estimator: Any, chunks: Any, start: tuple[Any, ...]) -> Any:
    from dask_dml.rounds.journal import Journal
    from dask_dml.rounds.store import Manifest, Store

    given = estimator.checkpoint
    given = given if isinstance(given, Checkpoint) else Checkpoint(given)
    store = Store(os.fspath(given.url))
    facts = _facts(estimator, chunks, start)
    known = store.read_manifest()
    if known is None:
        draws = check_random_state(estimator.random_state)
        facts["seed"] = int(draws.randint(2**31 - 1))
        known = Manifest(facts, [])
        store.write_manifest(known)
    else:
        _check_facts(store.url, known.facts, facts)
    return Journal(store, known, given.seconds, given.rounds)


def _random_state(estimator: Any, journal: Any) -> np.random.RandomState:
    if isinstance(estimator.random_state, Integral):
        return check_random_state(estimator.random_state)
    return np.random.RandomState(journal.facts["seed"])


def _compare_rows(journal: Any, known: Any, found: Any) -> None:
    if known is None:
        journal.add("rows", found)
        journal.write()
    else:
        _check_rows(journal.store.url, known[0], found)


def _shards(pieces: np.ndarray) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    shards: list[list[tuple[int, int, int]]] = [[] for _ in range(int(pieces[:, 0].max()) + 1)]
    for shard, chunk, first, stop in pieces.tolist():
        shards[shard].append((chunk, first, stop))
    return tuple(map(tuple, shards))


def _facts(estimator: Any, chunks: Any, start: tuple[Any, ...]) -> dict[str, Any]:
    import dask_dml
    from dask_dml.rounds.packing import fingerprint

    parameters = estimator.get_params(deep=False)
    if not isinstance(estimator.random_state, Integral):
        parameters["random_state"] = "drawn at the first fit"
    names = chunks.feature_names
    return {
        "version of dask_dml": dask_dml.__version__,
        "estimator": type(estimator).__name__,
        "parameters": {k: _plain(v) for k, v in sorted(parameters.items()) if k not in _NEUTRAL},
        "n_features": chunks.n_features,
        "feature names": None if names is None else [str(name) for name in names],
        "n_outputs": chunks.n_outputs,
        "dtype of X": str(chunks.dtype),
        "number of chunks of X": len(chunks.X),
        "sample weights": chunks.weight is not None,
        "coefficients to start from": fingerprint(start),
    }


def _plain(value: Any) -> Any:
    """Return a parameter as JSON that is equal where the parameter is."""
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, (Integral, np.bool_)):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        return sorted([str(key), _plain(one)] for key, one in value.items())
    return repr(value)


def _check_facts(url: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = []
    for name, value in now.items():
        if name == "parameters" and before["estimator"] == now["estimator"]:
            old = before[name]
            differences += [
                f"{key}={new!r}, and was {old.get(key)!r}"
                for key, new in value.items()
                if old.get(key) != new
            ]
        elif name != "parameters" and before.get(name) != value:
            differences.append(_difference(name, before.get(name), value))
    if differences:
        raise _other(url, "; ".join(differences))


def _difference(name: str, before: Any, now: Any) -> str:
    if name == "coefficients to start from":
        return "the fit starts from other coefficients"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        column = next(n for n, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
        return f"column {column} is {now[column]!r}, and was {before[column]!r}"
    return f"the {name} is {now!r}, and was {before!r}"


def _check_rows(url: str, before: Any, now: Any) -> None:
    old, new = _by_chunk(before), _by_chunk(now)
    if old.shape == new.shape and (old == new).all():
        return
    differ = [
        f"{name} differs in chunk {np.flatnonzero(a != b)[0]}"
        for name, a, b in zip(_HASHED, old.T, new.T, strict=True)
        if (a != b).any()
    ]
    raise _other(url, "; ".join(differ))


def _by_chunk(rows: Any) -> np.ndarray:
    sums = np.zeros((int(rows.pieces[:, 1].max()) + 1, len(_HASHED)), dtype=np.uint64)
    np.add.at(sums, rows.pieces[:, 1], rows.hashes)
    return sums


def _other(url: str, what: str) -> ValueError:
    return ValueError(
        f"The checkpoint in {url!r} belongs to another fit: {what}. Fit with the same parameters "
        "and data, or set another checkpoint, or delete this one to start anew."
    )
