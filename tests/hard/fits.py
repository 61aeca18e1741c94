"""Makes one fit of a case on its engine, and says what came of it."""

from __future__ import annotations

import itertools
import resource
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import dask
import dask.array as da
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from tests.hard import truth
from tests.hard.cases import Case

_THRESHOLDS = {
    f"distributed.worker.memory.{name}": False for name in ("target", "spill", "pause", "terminate")
}


class Engines:
    """Clusters of this process, made when they are first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._clients: dict[str, Any] = {}

    @contextmanager
    def use(self, engine: str) -> Iterator[None]:
        """Make an engine the one that a fit of lazy data takes."""
        if engine in ("numpy", "dask"):
            with dask.config.set(scheduler="threads"):
                yield
            return
        with self._client(engine).as_current(), ExitStack() as stack:
            if engine == "streaming":
                # Dask does not know how large CSR chunks are, and the package then places them.
                from dask_dml.rounds import choose

                stack.enter_context(mock.patch.object(choose, "_fits", return_value=False))
            yield

    def _client(self, engine: str) -> Any:
        from distributed import Client, LocalCluster

        if engine not in self._clients:
            limit = "100kB" if engine == "streaming" else 0
            self._stack.enter_context(dask.config.set(_THRESHOLDS))
            cluster = self._stack.enter_context(
                LocalCluster(
                    n_workers=2,
                    threads_per_worker=1,
                    processes=False,
                    memory_limit=limit,
                    dashboard_address=None,
                )
            )
            client = Client(cluster, set_as_default=False)
            self._clients[engine] = self._stack.enter_context(client)
        return self._clients[engine]

    def close(self) -> None:
        """End the clusters."""
        self._stack.close()


def chunked(X: Any, *others: np.ndarray | None) -> list[Any]:
    """Cut rows into chunks of different sizes, one of them empty."""
    n = X.shape[0]
    ends = np.unique((n * np.linspace(0.0, 1.0, 6 if n > 500 else 4) ** 1.2).astype(int))
    ends = np.concatenate([ends[:1], ends[:2], ends[2:]]) if n > 20 else ends
    sizes = tuple(int(size) for size in np.diff(ends))
    parts = [
        da.from_array(X[a:b], chunks=(max(b - a, 1), X.shape[1]), asarray=False)
        for a, b in itertools.pairwise(ends)
    ]
    lazy = [None if other is None else da.from_array(other, chunks=(sizes,)) for other in others]
    return [da.concatenate(parts), *lazy]


def estimator(case: Case, problem: truth.Truth, max_time: float | None) -> Any:
    """Return the unfitted estimator of a case."""
    known: dict[str, Any] = {"max_time": max_time}
    if case.tol != "default":
        known["tol"] = float(case.tol)
    if case.estimator == "svc":
        column = {"free": None, "none": 1.0, "1": 1.0, "100": 100.0}[case.intercept]
        return DistributedLinearSVC(
            loss=case.loss,
            penalty=case.penalty,
            C=float(case.strength),
            fit_intercept=case.intercept != "none",
            intercept_scaling=column,
            class_weight="balanced" if case.weights == "balanced" else None,
            solver=case.solver,
            **known,
        )
    known |= {
        "loss": case.loss,
        "penalty": case.penalty,
        "alpha": float(case.strength),
        "epsilon": problem.epsilon,
        "fit_intercept": case.intercept != "none",
    }
    if case.estimator == "sgd":
        return DistributedSGDRegressor(random_state=0, **known)
    return DistributedGDRegressor(solver=case.solver, **known)


def fit(case: Case, engines: Engines, max_time: float | None = None) -> dict[str, Any]:
    """Return what a fit reached and reported, as numbers and words.

    Parameters
    ----------
    case : Case
        What to fit.
    engines : Engines
        Where.
    max_time : float or None, default=None
        What the estimator is given; what is compiled on the way counts.
    """
    problem = truth.make(case)
    table = problem.table
    y = table.labels if case.estimator == "svc" else table.y
    weight = truth.sample_weight(case, len(y))
    model = estimator(case, problem, max_time)
    data = (table.X, y, weight)
    if case.engine != "numpy":
        data = tuple(chunked(*data))
    result: dict[str, Any] = {"case": str(case), "max_time": max_time}
    with warnings.catch_warnings(record=True) as caught, engines.use(case.engine):
        warnings.simplefilter("always")
        began, cpu = time.perf_counter(), time.process_time()
        try:
            model.fit(*data)
        except Exception as error:
            result["error"] = f"{type(error).__name__}: {error}"
            result["where"] = traceback.format_exc(limit=-4)
        result["seconds"] = time.perf_counter() - began
        result["cpu"] = time.process_time() - cpu
    result["warned"] = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    others = [w for w in caught if not issubclass(w.category, ConvergenceWarning)]
    result["other_warnings"] = sorted({f"{w.category.__name__}: {w.message}"[:200] for w in others})
    result["rss"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if "error" in result:
        return result
    values, roundings = truth.objective(problem, model.coef_, model.intercept_)
    reported = getattr(model, "objective_", None)
    result |= {
        "values": values.tolist(),
        "roundings": roundings.tolist(),
        "floor": problem.floor,
        "gap": float(model.duality_gap_),
        "converged": bool(model.converged_),
        "finished_by": getattr(model, "solver_", "sgd"),
        "n_iter": int(model.n_iter_),
        "n_rounds": int(model.n_rounds_),
        "reported": None if reported is None else float(reported),
    }
    return result
