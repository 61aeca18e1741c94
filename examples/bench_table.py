"""Measure what learning from a raw table costs: reads of the data, and seconds.

A column transformer (imputer and scaler for numbers, one-hot encoder for categories) and a ridge
regression behind it, on a made-up table whose partitions count how often they are made. Beside them
scikit-learn on the same rows in memory, and dask-ml's classes of the same names where dask-ml is
installed; what it cannot do is printed.

Usage: python examples/bench_table.py [ROWS]
"""

from __future__ import annotations

import sys
import time

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster, get_worker
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from dask_dml import DistributedGDRegressor
from dask_dml.compose import DistributedColumnTransformer
from dask_dml.preprocessing import (
    DistributedOneHotEncoder,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)

NUMBERS = [f"n{number}" for number in range(6)]
WORDS = ["town", "kind"]
PER_PARTITION = 250_000


def make(number: int, n_rows: int = PER_PARTITION, count: bool = True) -> pd.DataFrame:
    """Return a partition, and note that it has been made."""
    if count:
        get_worker().log_event("reads", number)
    rng = np.random.default_rng(number)
    table = pd.DataFrame(rng.normal(size=(n_rows, len(NUMBERS))), columns=NUMBERS)
    table["town"] = rng.choice([f"town {k}" for k in range(40)], n_rows)
    table["kind"] = rng.choice(["a", "b", "c"], n_rows)
    table["y"] = table[NUMBERS].sum(axis=1) + (table["kind"] == "a") + rng.normal(size=n_rows)
    for name in NUMBERS[:3]:
        table.loc[rng.random(n_rows) < 0.1, name] = np.nan
    return table


def columns(transformer, imputer, scaler, encoder):
    numbers = make_pipeline(imputer(), scaler())
    return transformer([("numbers", numbers, NUMBERS), ("words", encoder(), WORDS)])


def of_dask_ml(X, y):
    """Yield the names of dask-ml's counterparts, and functions that fit them."""
    try:
        from dask_ml.compose import ColumnTransformer as Columns
        from dask_ml.impute import SimpleImputer as Imputer
        from dask_ml.linear_model import LinearRegression
        from dask_ml.preprocessing import Categorizer
        from dask_ml.preprocessing import OneHotEncoder as Encoder
        from dask_ml.preprocessing import StandardScaler as Scaler
    except ImportError as error:
        print(f"without dask-ml: {error}")
        return

    def numbers():
        return make_pipeline(Imputer(), Scaler())

    def words():
        return make_pipeline(Categorizer(), Encoder())

    def last(rows):
        return LinearRegression(C=1.0).fit(rows.to_dask_array(lengths=True), y.values)

    yield (
        "dask-ml, columns",
        lambda: Columns([("n", numbers(), NUMBERS), ("w", words(), WORDS)]).fit(X),
    )
    yield "dask-ml, numbers alone", lambda: numbers().fit(X[NUMBERS])
    yield "dask-ml, words alone", lambda: words().fit(X[WORDS])
    yield "dask-ml, numbers, ridge", lambda: last(numbers().fit_transform(X[NUMBERS]))


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000
    n = n_rows // PER_PARTITION
    ours = columns(
        DistributedColumnTransformer,
        DistributedSimpleImputer,
        DistributedStandardScaler,
        DistributedOneHotEncoder,
    )
    theirs = columns(ColumnTransformer, SimpleImputer, StandardScaler, OneHotEncoder)
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        table = dd.from_map(make, range(n), meta=make(0, 1, count=False))
        X, y = table.drop(columns="y"), table["y"]
        model = make_pipeline(ours, DistributedGDRegressor())
        warm = X.partitions[:1], y.partitions[:1]
        model.fit(*warm)
        for name, work in (
            ("reading alone", lambda: X.map_partitions(len).compute()),
            ("column transformer", lambda: ours.fit(X)),
            ("pipeline with a ridge", lambda: model.fit(X, y)),
            *of_dask_ml(X, y),
        ):
            seen = len(client.get_events("reads"))
            start = time.perf_counter()
            try:
                work()
            except Exception as error:
                print(f"{name:<24} {type(error).__name__}: {str(error).splitlines()[0][:70]}")
                continue
            seconds = time.perf_counter() - start
            reads = (len(client.get_events("reads")) - seen) / n
            print(f"{name:<24} {reads:5.2f} reads {seconds:8.2f} s", flush=True)
    here = pd.concat([make(number, count=False) for number in range(n)])
    X_here, y_here = here.drop(columns="y"), here["y"]
    for name, model in (
        ("scikit-learn, columns", theirs),
        ("scikit-learn, pipeline", make_pipeline(theirs, Ridge(alpha=1e-4 * len(here)))),
    ):
        start = time.perf_counter()
        model.fit(X_here, y_here)
        print(f"{name:<24} in memory   {time.perf_counter() - start:8.2f} s", flush=True)


if __name__ == "__main__":
    main()
