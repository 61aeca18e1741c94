"""From CSV files with dates, gaps and categories to a saved model that needs no Dask.

The table is made up: prices of parcels by weight, age, town, kind and day, with gaps in three of
these columns. `fit` and the two functions before it are all that a user would write.

Usage: python examples/raw_table.py [ROWS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cloudpickle
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from dask_dml import DistributedGDRegressorCV, to_sklearn
from dask_dml.compose import make_distributed_column_transformer
from dask_dml.inspection import coefficients
from dask_dml.metrics import mean_absolute_error
from dask_dml.model_selection import train_test_split
from dask_dml.preprocessing import (
    DistributedOneHotEncoder,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)

NOISE = 2.0


def date_parts(table):
    day = table["day"].dt
    return pd.DataFrame({"month": day.month, "weekday": day.day_name()}, index=table.index)


def date_names(transformer, names):
    return ["month", "weekday"]


def fit(folder: Path):
    table = dd.read_csv(str(folder / "*.csv"), parse_dates=["day"])
    X, y = table.drop(columns="price"), table["price"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=0)
    numbers = make_pipeline(DistributedSimpleImputer(), DistributedStandardScaler())
    words = make_pipeline(
        DistributedSimpleImputer(strategy="most_frequent"),
        DistributedOneHotEncoder(handle_unknown="ignore"),
    )
    dates = make_pipeline(
        FunctionTransformer(date_parts, feature_names_out=date_names), DistributedOneHotEncoder()
    )
    columns = make_distributed_column_transformer(
        (numbers, ["weight", "age"]),
        (words, ["town", "kind"]),
        (dates, ["day"]),
        verbose_feature_names_out=False,
    )
    model = make_pipeline(columns, DistributedGDRegressorCV(alphas=np.logspace(-6, 1, 8), cv=3))
    model.fit(X_train, y_train)
    score = model.score(X_test, y_test)
    print(f"alpha {model[-1].alpha_:.0e}, R2 {score:.4f} of the rows held out")
    print(f"mean absolute error {mean_absolute_error(y_test, model.predict(X_test)):.3f}")
    print(coefficients(model).head(5))
    # The functions of this script travel with the model.
    (folder / "model.pkl").write_bytes(cloudpickle.dumps(to_sklearn(model)))
    return score


SERVE = """
import pickle, sys
import pandas as pd
model = pickle.load(open(sys.argv[1], "rb"))
row = pd.DataFrame({"day": [pd.Timestamp("2024-12-20")], "weight": [3.0], "age": [float("nan")],
                    "town": ["Bern"], "kind": [None]})
print("one row:", model.predict(row).round(2), "Dask loaded:", "dask" in sys.modules)
"""


def make_table(folder: Path, n_rows: int, per_file: int = 250_000) -> None:
    """Write CSV files of parcels whose prices follow a linear law, but for noise and gaps."""
    for number, first in enumerate(range(0, n_rows, per_file)):
        n = min(per_file, n_rows - first)
        rng = np.random.default_rng(number)
        town = rng.choice(
            ["Bern", "Kiel", "Linz", "Oulu", "Turku"], n, p=[0.5, 0.2, 0.15, 0.1, 0.05]
        )
        kind = rng.choice(["bulky", "plain"], n)
        day = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 366, n), unit="D")
        weight, age = rng.gamma(2.0, 2.0, n), rng.normal(50.0, 9.0, n)
        price = 10.0 + 3.0 * weight + 5.0 * (town == "Kiel") + 2.0 * (kind == "bulky")
        price += 4.0 * (day.month == 12) + 0.05 * age + rng.normal(0.0, NOISE, n)
        table = pd.DataFrame(
            {"day": day, "weight": weight, "age": age, "town": town, "kind": kind, "price": price}
        )
        for column, share in (("age", 0.3), ("weight", 0.01), ("kind", 0.02)):
            table.loc[rng.random(n) < share, column] = np.nan
        table.to_csv(folder / f"part-{number:03}.csv", index=False, float_format="%.3f")


def run(n_rows: int) -> float:
    """Make the table, fit, save and serve; return R2 of the rows held out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_table(folder, n_rows)
        start = time.perf_counter()
        score = fit(folder)
        print(f"{n_rows:,} rows: {time.perf_counter() - start:.1f} s")
        served = [sys.executable, "-c", SERVE, str(folder / "model.pkl")]
        print(subprocess.run(served, capture_output=True, text=True, check=True).stdout.strip())
    return score


def main() -> None:
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        score = run(n_rows)
    # Noise and gaps leave about 0.94 to be explained.
    if score < 0.93:
        sys.exit(f"R2 {score:.3f} is less than the table allows")


if __name__ == "__main__":
    main()
