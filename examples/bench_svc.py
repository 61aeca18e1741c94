"""Compare DistributedLinearSVC with liblinear and snapml: run by hand, prints tables.

    python examples/bench_svc.py [hinge squared text text_hinge digits] [--repeats 3]

The data is held by two local one-thread workers; snapml takes two threads, liblinear knows one.
Times are medians of runs that take turns, so that other work on the machine strikes all alike.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
import scipy.sparse as sp
from distributed import Client, LocalCluster, wait
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from dask_dml import DistributedLinearSVC

#: Objective of a model: rows, labels -1 and 1, the model.
Objective = Callable[[Any], float]


def gaussian_classes(n_rows: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two overlapping classes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features))
    w = rng.standard_normal(n_features) / np.sqrt(n_features)
    return X, (X @ w + 0.5 * rng.standard_normal(n_rows) > 0).astype(np.float64)


def hashed_text(n_rows: int, n_features: int) -> tuple[Any, np.ndarray]:
    """Return rows like hashed text: some 137 words by Zipf's law, each row of unit length."""
    rng = np.random.default_rng(0)
    n_words = 157
    words = np.exp(rng.random((n_rows, n_words)) * np.log(1e6)).astype(np.int64)
    columns = (words * 2654435761 % n_features).astype(np.int32)
    w = rng.standard_normal(n_features) * np.minimum(1.0, 30.0 / np.arange(1, n_features + 1))
    score = (w[words % n_features] + 0.1 * rng.standard_normal(words.shape)).sum(axis=1)
    y = (score > np.median(score)).astype(np.float64)
    indptr = np.arange(n_rows + 1, dtype=np.int32) * n_words
    X = sp.csr_array((np.ones(columns.size), columns.ravel(), indptr), shape=(n_rows, n_features))
    X.sum_duplicates()
    X.data /= np.repeat(np.sqrt(X.multiply(X).sum(axis=1)), np.diff(X.indptr))
    return X, y


def objective(X: Any, y: np.ndarray, C: float, loss: str) -> Objective:
    """Return the function that evaluates a model's objective, intercept penalised."""
    sign = np.where(y > 0, 1.0, -1.0)

    def value(model: Any) -> float:
        w, b = np.ravel(model.coef_), float(np.ravel(model.intercept_)[0])
        t = np.maximum(1.0 - sign * (X @ w + b), 0.0)
        return 0.5 * float(w @ w + b * b) + C * float(t.sum() if loss == "hinge" else t @ t)

    return value


@contextmanager
def two_workers() -> Iterator[Client]:
    """Open a cluster of two one-thread workers."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="6 GiB",
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def on_workers(client: Client, X: Any, y: np.ndarray, n_chunks: int = 8) -> Any:
    """Place rows on the workers; return dask arrays."""
    step = -(-X.shape[0] // n_chunks)
    parts, targets = [], []
    for start in range(0, X.shape[0], step):
        rows = slice(start, start + step)
        future = client.scatter(X[rows], hash=False)
        shape = (min(step, X.shape[0] - start), X.shape[1])
        meta = X[:0] if sp.issparse(X) else None
        parts.append(da.from_delayed(dask.delayed(future), shape, X.dtype, meta=meta))
        targets.append(da.from_array(y[rows], chunks=-1))
    held = client.persist([da.concatenate(parts), da.concatenate(targets)])
    wait(held)
    client.rebalance()
    return held


def race(
    runs: dict[str, Callable[[], Any]],
    value: Objective,
    repeats: int,
    known: dict[str, tuple[float, Any]] | None = None,
) -> dict[str, float]:
    """Run the contestants in turns; print a table and return the median times.

    The first is what the others are compared with.  ``known`` has the times and models of those
    that are too slow to be run again and again.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    models: dict[str, Any] = {}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            models[name] = run()
            if turn:  # the first turn compiles
                times[name].append(time.perf_counter() - start)
    for name, (taken, model) in (known or {}).items():
        times[name], models[name] = [taken], model
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    values = {name: value(model) for name, model in models.items()}
    best, first = min(values.values()), next(iter(medians.values()))
    print(f"  {'':36} {'seconds':>8} {'ratio':>6} {'above best':>11} {'proven gap':>11}  rounds")
    for name, model in models.items():
        gap = f"{model.duality_gap_:11.1e}" if hasattr(model, "duality_gap_") else " " * 11
        print(
            f"  {name:36} {medians[name]:8.3f} {medians[name] / first:6.2f} "
            f"{values[name] / best - 1:11.1e} {gap}  {getattr(model, 'n_rounds_', '')}"
        )
    return medians


def loosest(
    make: Callable[[float], Any], X: Any, y: np.ndarray, value: Objective, target: float
) -> tuple[str, float, Any]:
    """Return the largest tolerance, in words, with which a peer reaches an objective.

    Its time and the fitted model come with it; the last tried where none does.
    """
    for tol in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        start = time.perf_counter()
        model = make(tol).fit(X, y)
        taken = time.perf_counter() - start
        if value(model) <= target:
            break
    return f"tol={tol:g}", taken, model


def snap(loss: str, C: float, tol: float, max_iter: int = 1000) -> Any:
    """Return snapml's estimator with our objective."""
    from snapml import SupportVectorMachine

    return SupportVectorMachine(
        loss=loss,
        regularizer=1.0 / C,
        tol=tol,
        max_iter=max_iter,
        n_jobs=2,
        fit_intercept=True,
        intercept_scaling=1.0,
        use_gpu=False,
    )


def dense(repeats: int, losses: tuple[str, ...] = ("hinge", "squared_hinge")) -> None:
    """300,000 x 100: hinge and squared hinge to a gap of 1e-6."""
    X, y = gaussian_classes(300_000, 100)
    C = 1e-3
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        for loss in losses:
            print(f"{loss}, 300,000 x 100, C = {C:g}, to an objective within 1e-6 of the optimum")
            value = objective(X, y, C, loss)
            ours = DistributedLinearSVC(loss=loss, C=C, tol=1e-6)
            target = value(ours.fit(dX, dy)) * (1.0 + 1e-6)
            tol, _, found = loosest(partial(snap, loss, C), X, y, value, target)
            runs = {
                "DistributedLinearSVC": partial(ours.fit, dX, dy),
                f"snapml, 2 threads, {tol}": partial(found.fit, X, y),
            }

            def liblinear(tol: float, loss: str = loss) -> Any:
                return LinearSVC(loss=loss, C=C, tol=tol, dual=True, max_iter=3000)

            known = {}
            tol, taken, model = loosest(liblinear, X, y, value, target)
            known[f"liblinear, {tol}"] = taken, model
            dual = DistributedLinearSVC(loss=loss, C=C, tol=1e-6, solver="dual")
            start = time.perf_counter()
            known["DistributedLinearSVC, dual"] = 0.0, dual.fit(dX, dy)
            known["DistributedLinearSVC, dual"] = time.perf_counter() - start, dual
            race(runs, value, repeats, known)


def text(repeats: int, losses: tuple[str, ...] = ("squared_hinge", "hinge")) -> None:
    """50,000 x 262,144 hashed text, C = 1, to the objective of liblinear at tol=1e-2."""
    X, y = hashed_text(50_000, 2**18)
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        for loss in losses:
            value = objective(X, y, 1.0, loss)
            other = LinearSVC(loss=loss, tol=1e-2, dual=True)
            target = value(other.fit(X, y))
            for tol in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
                ours = DistributedLinearSVC(loss=loss, tol=tol)
                if value(ours.fit(dX, dy)) <= target * (1.0 + 1e-7):
                    break
            print(f"{loss}, hashed text 50,000 x 262,144, C = 1, to liblinear's objective")
            default = DistributedLinearSVC(loss=loss)
            runs: dict[str, Callable[[], Any]] = {
                f"DistributedLinearSVC, tol={tol:g}": partial(ours.fit, dX, dy),
                "DistributedLinearSVC, default tol": partial(default.fit, dX, dy),
                "liblinear, tol=1e-2": partial(other.fit, X, y),
            }
            race(runs, value, repeats)


def digits(repeats: int) -> None:
    """Ten classes of digits, repeated to 57,504 rows, against one of them."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = np.tile(X / 16.0, (32, 1))
    X += 0.05 * rng.standard_normal(X.shape)
    y = np.tile(y, 32)
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        for loss in ("squared_hinge", "hinge"):
            print(f"{loss}, digits 57,504 x 64, C = 1e-2: ten classes against one")
            model = DistributedLinearSVC(loss=loss, C=1e-2)
            race(
                {
                    "one class": partial(clone(model).fit, dX, dy == 3),
                    "ten classes": partial(model.fit, dX, dy),
                },
                lambda m: m.objective_ / len(m.coef_),
                repeats,
            )


def main() -> None:
    """Print the tables."""
    tables = {
        "hinge": partial(dense, losses=("hinge",)),
        "squared": partial(dense, losses=("squared_hinge",)),
        "text": partial(text, losses=("squared_hinge",)),
        "text_hinge": partial(text, losses=("hinge",)),
        "digits": digits,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(tables), choices=[*tables, []])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in options.tables:
        tables[name](options.repeats)


if __name__ == "__main__":
    main()
