"""Whether some worker keeps others waiting, and whether moving shards pays; knows no cluster."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from dask_dml.rounds.plan import Host, even_out, round_time

#: How much longer than the others' mean a worker has to take, in all and in this many seconds.
FACTOR = 2.0
SECONDS = 2.0

#: Rounds before anything is said: the first load code and fill caches.
FIRST_ROUNDS = 5


class Balance:
    """The time that workers have spent in the rounds of a fit.

    Attributes
    ----------
    seconds : dict of str to float
        Of each worker, since the set of workers last changed.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._rounds = 0
        self._told: set[str] = set()

    def add(self, seconds: Mapping[str, float]) -> str | None:
        """Take the times of a round; return what is to be said, once of each worker.

        Parameters
        ----------
        seconds : mapping of str to float
            Of each worker that took part.

        Returns
        -------
        message : str or None
            Which worker makes the others wait, and for how long.
        """
        if seconds.keys() != self.seconds.keys():
            self.seconds, self._rounds = dict.fromkeys(seconds, 0.0), 0
        self._rounds += 1
        if self._rounds <= FIRST_ROUNDS:
            return None
        for worker, amount in seconds.items():
            self.seconds[worker] += amount
        slowest = max(self.seconds, key=lambda worker: self.seconds[worker])
        others = [amount for worker, amount in self.seconds.items() if worker != slowest]
        if not others or slowest in self._told:
            return None
        mean, most = sum(others) / len(others), self.seconds[slowest]
        if most < FACTOR * mean or most - mean < SECONDS:
            return None
        self._told.add(slowest)
        return (
            f"Worker {slowest} has taken {most:.1f} s for its part of "
            f"{self._rounds - FIRST_ROUNDS} rounds, and the others {mean:.1f} s on average: they "
            "wait for it. It is slow or busy with something else, or it holds more rows: "
            "rebalance persisted data (client.rebalance()), or set n_shards."
        )


#: Rounds whose times are remembered; as many as three, at least, tell how fast a worker is.
LAST_ROUNDS, ENOUGH_ROUNDS = 9, 3
#: Share of a round's time that has to be won for anything to be moved.
LEAST_GAIN = 0.1
#: Seconds that moving takes beside what the bytes take, and bytes of a second.
MOVING, BANDWIDTH = 0.5, 2e8


class Rebalancing:
    """When shards are to move between workers: once what waiting has cost pays for moving them.

    That is at most twice what it would cost to know in advance how long the fit takes.  Every
    move has to pay for twice as much as the one before, until other workers come.

    Parameters
    ----------
    nbytes : sequence of int
        Bytes of each shard.
    """

    def __init__(self, nbytes: Sequence[int]) -> None:
        self.nbytes = nbytes
        self._paces: dict[str, deque[float]] = {}
        self._level: deque[float] = deque(maxlen=LAST_ROUNDS)
        self._rounds = 0
        self._waste = 0.0
        self._moves = 0
        self._workers: frozenset[str] = frozenset()

    def add(self, seconds: Mapping[int, float], homes: Mapping[int, str]) -> None:
        """Take the times of a round.

        Parameters
        ----------
        seconds : mapping of int to float
            What a thread took for each shard.
        homes : mapping of int to str
            The shards' workers.
        """
        spent: dict[str, float] = {}
        held: dict[str, int] = {}
        for number, amount in seconds.items():
            spent[homes[number]] = spent.get(homes[number], 0.0) + amount
            held[homes[number]] = held.get(homes[number], 0) + self.nbytes[number]
        paces = {worker: amount / max(held[worker], 1) for worker, amount in spent.items()}
        level = median(paces.values())
        if level <= 0.0:
            return
        self._rounds += 1
        self._level.append(level)
        for worker, pace in paces.items():
            self._paces.setdefault(worker, deque(maxlen=LAST_ROUNDS)).append(pace / level)

    def decide(self, homes: Mapping[int, str], hosts: Mapping[str, Host]) -> dict[int, str] | None:
        """Return where the shards are to be, or None for where they are.

        Parameters
        ----------
        homes : mapping of int to str
            Where they are.
        hosts : mapping of str to Host
            The workers; how fast they are is known here.
        """
        if frozenset(hosts) != self._workers:
            self._workers, self._moves = frozenset(hosts), 0
        if not self._rounds or not set(homes.values()) <= set(hosts):
            return None
        rounds, self._rounds = self._rounds, 0
        hosts = {worker: replace(host, pace=self._pace(worker)) for worker, host in hosts.items()}
        better = even_out(homes, self.nbytes, hosts)
        before, after = (round_time(where, self.nbytes, hosts) for where in (homes, better))
        if after > (1.0 - LEAST_GAIN) * before:
            return None
        self._waste += rounds * median(self._level) * (before - after)
        moved = sum(self.nbytes[n] for n, home in homes.items() if better[n] != home)
        if self._waste < 2**self._moves * (MOVING + moved / BANDWIDTH):
            return None
        self._waste = 0.0
        self._moves += 1
        return better

    def _pace(self, worker: str) -> float:
        known = self._paces.get(worker, ())
        return median(known) if len(known) >= ENOUGH_ROUNDS else 1.0
