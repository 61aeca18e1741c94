"""What a fit would do, told before it is done."""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sklearn.base import clone

from dask_dml.estimators.monitor import CallbackSupportMixin
from dask_dml.input.read import read_input

#: Bytes of X that a thread reads in a second, and multiplications that it makes: what takes
#: seconds is told to about a factor of three.
BYTES_PER_SECOND, PRODUCTS_PER_SECOND = 1e9, 5e9
#: Sizes of chunks, in bytes, between which there is nothing to advise.
SMALL_CHUNK, LARGE_CHUNK = 2**20, 2**30
#: Seconds from which on a round trip is that of a network; on one machine it takes some 3 ms.
LONG_TRIP = 0.02


@dataclass(frozen=True)
class Method:
    """Which method a fit would take.

    Attributes
    ----------
    solver : str
        Its name; the first one, where solvers take turns.
    why : str
        The rule that chose it.
    passes : tuple of (int, int)
        Between how many passes over the data such fits usually take.
    squares : bool
        Whether passes form a matrix of columns by columns.
    """

    solver: str
    why: str
    passes: tuple[int, int]
    squares: bool = False


@dataclass(frozen=True)
class Explanation:
    """What a fit would do.  It prints as text, and as a table in notebooks.

    Attributes
    ----------
    estimator : str
        Name of the estimator.
    n_rows, n_features : float
        Shape of X; NaN where Dask does not know it.
    n_chunks : int
        Number of chunks of rows.
    nbytes : float
        Bytes that X takes in the fit; NaN if that is not known.
    dtype : str
        Data type of the numbers in X.
    engine : {"memory", "cluster", "streaming"}
        Where the rows would be; see ``engine_`` of the estimator.
    room : float
        Bytes that X may take there; infinite if there is no limit.
    workers, threads : int
        Number of workers (0 in this process), and number of threads of all of them.
    solver : str
        The solver that the fit begins with.
    why : str
        The reason for this solver.
    passes : tuple of (int, int)
        Smallest and largest number of passes over the data that such fits usually take.
    seconds : tuple of (float, float)
        Seconds that these passes take, to about a factor of three.  NaN if the size of X is not
        known.
    ignored : dict of str to str
        Parameters that were set but will have no effect, with the reason.
    advice : list of str
        Suggestions for a faster or safer fit.
    trip : float
        Seconds of a round trip to the scheduler.  Every pass waits for at least one.  0 in this
        process.
    """

    estimator: str
    n_rows: float
    n_features: int
    n_chunks: int
    nbytes: float
    dtype: str
    engine: str
    room: float
    workers: int
    threads: int
    solver: str
    why: str
    passes: tuple[int, int]
    seconds: tuple[float, float]
    ignored: dict[str, str] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    trip: float = 0.0

    def facts(self) -> dict[str, str]:
        """Return the explanation as lines of text, by their titles."""
        rows = "unknown" if math.isnan(self.n_rows) else f"{self.n_rows:,.0f}"
        room = "no limit" if math.isinf(self.room) else _bytes(self.room)
        where = f"{self.workers} worker(s), " if self.workers else "this process, "
        answer = f", {1e3 * self.trip:.2g} ms for a round trip" if self.workers else ""
        low, high = self.seconds
        time = "unknown" if math.isnan(low) else f"about {low:.2g} to {high:.2g} s"
        return {
            "data": f"{rows} rows, {self.n_features:,} columns, {self.dtype}",
            "chunks": f"{self.n_chunks:,}",
            "memory": f"{_bytes(self.nbytes)} for X; there is room for {room}",
            "engine": f"{self.engine}: {where}{self.threads} thread(s){answer}",
            "solver": f"{self.solver}: {self.why}",
            "passes": f"usually {self.passes[0]} to {self.passes[1]}",
            "time": f"{time}, without reading the data and compiling kernels",
            **{f"{name} is ignored": why for name, why in self.ignored.items()},
            **{f"advice {n}": said for n, said in enumerate(self.advice, 1)},
        }

    def __str__(self) -> str:
        lines = [f"{title}: {said}" for title, said in self.facts().items()]
        return "\n".join([f"{self.estimator}.fit would do this:", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(title)}</th>"
            f"<td style='text-align:left'>{html.escape(said)}</td></tr>"
            for title, said in self.facts().items()
        )
        return f"<table><caption>{self.estimator}.fit</caption>{rows}</table>"


class ExplainedMixin(CallbackSupportMixin):
    """Estimators that tell what a fit would do."""

    n_jobs: int | None

    def explain(self, X: Any, y: Any, sample_weight: Any = None) -> Explanation:
        """Say what `fit` would do with some data, without fitting.

        Parameters
        ----------
        X, y, sample_weight : array-like or Dask collection
            As for `fit`.  If the size of a Dask collection is not known, it is estimated from a few
            chunks.  If the classes in a lazy y are not numbers, they are found by one pass over y.

        Returns
        -------
        explanation : Explanation
            Engine, placement, solver and reason, expected passes and seconds, memory, advice.

        Raises
        ------
        ValueError
            If a parameter or the form of the data is invalid.
        """
        self._check()
        from dask_dml.rounds.choose import foretell

        # Reading sets attributes: those of a copy.
        chunks = read_input(clone(self), X, self._codes(X, y), sample_weight)
        found = foretell(chunks, self.n_jobs)
        n_rows = _n_rows(X)
        method = self._method(n_rows, chunks)
        ignored = self._ignored()
        return Explanation(
            estimator=type(self).__name__,
            n_rows=n_rows,
            n_features=chunks.n_features,
            n_chunks=len(chunks.X),
            nbytes=found.nbytes,
            dtype=str(chunks.dtype),
            engine=found.engine,
            room=found.room,
            workers=found.n_workers,
            threads=found.n_threads,
            solver=method.solver,
            why=method.why,
            passes=method.passes,
            seconds=_seconds(method, n_rows, chunks.n_features, found),
            ignored=ignored,
            advice=_advice(chunks, found, method, ignored),
            trip=found.trip,
        )

    def _codes(self, X: Any, y: Any) -> Any:  # noqa: ARG002 - of classifiers
        return y

    def _method(self, n_rows: float, chunks: Any) -> Method:
        raise NotImplementedError

    def _ignored(self) -> dict[str, str]:
        """Return the parameters that are set and that the solver does not read, and why."""
        return {}

    def _set_in_vain(self, names: str, why: str) -> dict[str, str]:
        default = type(self)().get_params(deep=False)
        return {name: why for name in names.split() if getattr(self, name) != default[name]}

    def _warn_of_ignored(self) -> None:
        for name, why in self._ignored().items():
            warnings.warn(
                f"{type(self).__name__} ignores {name}={getattr(self, name)!r}: {why}.",
                UserWarning,
                stacklevel=4,
            )


def _n_rows(X: Any) -> float:
    rows = getattr(X, "shape", (math.nan,))[0]
    try:
        return float(rows)
    except (TypeError, ValueError):  # a Dask frame has a lazy number
        return math.nan


def _seconds(method: Method, n_rows: float, n_features: int, found: Any) -> tuple[float, float]:
    one = found.nbytes / BYTES_PER_SECOND
    if method.squares:
        one += n_rows * n_features**2 / 2 / PRODUCTS_PER_SECOND
    low, high = ((one / max(found.n_threads, 1) + found.trip) * n for n in method.passes)
    return low, high


def _advice(chunks: Any, found: Any, method: Method, ignored: Mapping[str, str]) -> list[str]:
    said = []
    size = found.nbytes / max(len(chunks.X), 1)
    if found.engine == "streaming":
        said.append(
            "X does not fit into memory and is read anew in every pass: use more or larger workers"
            + (", or float32, which takes half." if str(chunks.dtype) == "float64" else ".")
        )
        if method.passes[1] > 50:
            said.append("Few passes matter then: prefer squared error, or a larger tol.")
    if chunks.lazy and len(chunks.X) > 100 and size < SMALL_CHUNK:
        said.append(
            f"Chunks of {_bytes(size)} cost Dask more than they cost the fit: rechunk to 10 to "
            "500 MB."
        )
    if chunks.lazy and size > LARGE_CHUNK:
        said.append(
            f"Chunks of {_bytes(size)} need several times as much memory while they are made: "
            "rechunk to 10 to 500 MB."
        )
    if chunks.lazy and len(chunks.X) < found.n_threads:
        said.append(
            f"{len(chunks.X)} chunk(s) keep at most as many of the {found.n_threads} threads busy: "
            "rechunk into more."
        )
    if found.trip > LONG_TRIP and method.passes[1] > 3:
        said.append(
            f"Every pass waits {1e3 * found.trip:.0f} ms for the cluster's answer: fit in a "
            "process near the scheduler, or with a solver that needs fewer passes."
        )
    if method.solver == "gd":
        said.append(
            "Gradient descent is as slow as the columns are unequal: scale them, or use "
            "solver='auto'."
        )
    said += [f"Leave {name} at its default: it is not read." for name in ignored]
    return said


def _bytes(number: float) -> str:
    if math.isnan(number):
        return "an unknown number of bytes"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f} bytes"
