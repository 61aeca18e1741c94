"""Whether some worker keeps all others waiting; knows no cluster."""

from __future__ import annotations

from collections.abc import Mapping

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
