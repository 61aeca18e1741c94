"""Compare DistributedLinearSVC with liblinear and snapml: run by hand, prints tables.

    python examples/bench_svc.py [dense text digits] [--repeats 3]

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
    runs: dict[str, Callable[[], Any]], value: Objective, repeats: int, once: tuple[str, ...] = ()
) -> dict[str, float]:
    """Run the contestants in turns; print a table and return the median times."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    values = {}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            if name in once and turn != 1:
                continue
            start = time.perf_counter()
            model = run()
            if turn:  # the first turn compiles
                times[name].append(time.perf_counter() - start)
            values[name] = (value(model), getattr(model, "duality_gap_", np.nan), model)
    best = min(found for found, _, _ in values.values())
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, (found, gap, model) in values.items():
        rounds = getattr(model, "n_rounds_", "")
        print(
            f"  {name:34} {medians[name]:8.3f} s  above the best by {found / best - 1:8.1e}  "
            f"proven gap {gap:8.1e}  rounds {rounds}"
        )
    return medians


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


def dense(repeats: int) -> None:
    """300,000 x 100: hinge and squared hinge to a gap of 1e-6."""
    X, y = gaussian_classes(300_000, 100)
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        for loss in ("hinge", "squared_hinge"):
            print(f"{loss}, 300,000 x 100, C = 1e-3, to a gap of 1e-6")
            ours = DistributedLinearSVC(loss=loss, C=1e-3, tol=1e-6)
            dual = DistributedLinearSVC(loss=loss, C=1e-3, tol=1e-6, solver="dual")
            other = LinearSVC(loss=loss, C=1e-3, tol=1e-3, dual=True, max_iter=3000)
            runs = {
                "DistributedLinearSVC": partial(ours.fit, dX, dy),
                "  with solver='dual'": partial(dual.fit, dX, dy),
                "snapml, 2 threads": partial(snap(loss, 1e-3, 1e-6).fit, X, y),
                "liblinear": partial(other.fit, X, y),
            }
            slow = ("liblinear", "  with solver='dual'")
            race(runs, objective(X, y, 1e-3, loss), repeats, once=slow)


def text(repeats: int) -> None:
    """50,000 x 262,144 hashed text, C = 1, to the objective of liblinear at tol=1e-2."""
    X, y = hashed_text(50_000, 2**18)
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        for loss in ("squared_hinge", "hinge"):
            print(f"{loss}, hashed text 50,000 x 262,144, C = 1")
            runs: dict[str, Callable[[], Any]] = {}
            for tol in (1e-2, 1e-3, 1e-4):
                model = DistributedLinearSVC(loss=loss, tol=tol)
                runs[f"DistributedLinearSVC, tol={tol:g}"] = partial(model.fit, dX, dy)
            other = LinearSVC(loss=loss, tol=1e-2, dual=True)
            runs["liblinear, tol=1e-2"] = partial(other.fit, X, y)
            race(runs, objective(X, y, 1.0, loss), repeats)


def digits(repeats: int) -> None:
    """Ten classes of digits, repeated to 57,504 rows, against one of them."""
    X, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    X = np.tile(X / 16.0, (32, 1))
    X += 0.05 * rng.standard_normal(X.shape)
    y = np.tile(y, 32)
    with two_workers() as client:
        dX, dy = on_workers(client, X, y)
        print("digits, 57,504 x 64, C = 1e-2: ten classes against one")
        model = DistributedLinearSVC(C=1e-2)
        taken = race(
            {
                "one class": lambda: model.fit(dX, dy == 3),
                "ten classes": lambda: model.fit(dX, dy),
            },
            lambda m: m.objective_,
            repeats,
        )
        print(f"  ten classes take {taken['ten classes'] / taken['one class']:.1f} times as long")


def main() -> None:
    """Print the tables."""
    tables = {"dense": dense, "text": text, "digits": digits}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(tables), choices=[*tables, []])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    for name in options.tables:
        tables[name](options.repeats)


if __name__ == "__main__":
    main()
