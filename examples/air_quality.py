"""Regress hourly PM2.5 in Beijing on other pollutants, weather and time of day.

The data are the twelve station files of the "Beijing Multi-Site Air Quality" data set (UCI
Machine Learning Repository): hourly measurements from March 2013 to February 2017. The last year
is held out, so that the score says how the model does on days that it has not seen.

PM10 is left out although it is in the files and would raise the score: the fine particles of
PM2.5 are part of what PM10 weighs, so it would explain the target by itself.

Usage: python examples/air_quality.py [FOLDER]
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.distributed import Client, LocalCluster, wait
from sklearn.linear_model import Ridge

from dask_dml import DistributedGDRegressor

TARGET = "PM2.5"
POLLUTANTS = ["SO2", "NO2", "CO", "O3"]
WEATHER = ["TEMP", "PRES", "DEWP", "RAIN", "WSPM"]
MEASURED = POLLUTANTS + WEATHER
COMPASS = pd.CategoricalDtype("N NNE NE ENE E ESE SE SSE S SSW SW WSW W WNW NW NNW".split())
# Sensors drop out for an hour or two at a time; the last reading says nothing about next week.
LONGEST_FILL = 6
ALPHA = 1e-4


def read(folder: Path) -> dd.DataFrame:
    """Read the station files, one partition for each."""
    return dd.read_csv(
        str(folder / "PRSA_Data_*.csv"),
        usecols=["year", "month", "hour", TARGET, *MEASURED, "wd"],
        dtype={TARGET: "float64", **dict.fromkeys(MEASURED, "float64"), "wd": COMPASS},
        # One blank among the numbers would otherwise make a column text in one file only.
        na_values=[" "],
        # One partition must be one station: a gap is filled from the hours before it, and these
        # must not be another station's.
        blocksize=None,
    )


def prepare(station: pd.DataFrame) -> pd.DataFrame:
    """Fill short gaps, drop rows with no target, and encode the wind and the clock."""
    filled = [*MEASURED, "wd"]
    station = station.assign(**station[filled].ffill(limit=LONGEST_FILL))
    station = station.dropna(subset=[TARGET])
    hour = 2 * np.pi * station["hour"] / 24
    month = 2 * np.pi * (station["month"] - 1) / 12
    return station.assign(
        hour_sin=np.sin(hour),
        hour_cos=np.cos(hour),
        month_sin=np.sin(month),
        month_cos=np.cos(month),
        held_out=(station["year"] == 2017) | ((station["year"] == 2016) & (station["month"] >= 3)),
    ).drop(columns=["year", "month", "hour"])


def load(folder: Path) -> tuple[dd.DataFrame, dd.DataFrame]:
    """Return the prepared training and test rows, held by the workers."""
    frame = read(folder).map_partitions(prepare)
    # North is the baseline that the other fifteen are compared with; the few hours whose wind is
    # still unknown count as baseline too.
    frame = dd.get_dummies(frame, columns=["wd"], drop_first=True, dtype="float64").persist()
    train, test = (
        frame[frame["held_out"] == part].drop(columns="held_out") for part in (False, True)
    )

    # Means and scales of the training rows only: the held-out year must not leak into the fit.
    mean, std = dd.compute(train[MEASURED].mean(), train[MEASURED].std())

    def scale(part: pd.DataFrame) -> pd.DataFrame:
        return part.assign(**((part[MEASURED].fillna(mean) - mean) / std))

    train, test = dask.persist(train.map_partitions(scale), test.map_partitions(scale))
    # Reading the files is not to count as fitting time.
    wait([train, test])
    return train, test


def objective(X: np.ndarray, y: np.ndarray, coef: np.ndarray, intercept: float) -> float:
    """Return half the mean squared error plus the penalty: what both models minimise."""
    return 0.5 * np.mean((y - X @ coef - intercept) ** 2) + 0.5 * ALPHA * coef @ coef


def report(model: DistributedGDRegressor, seconds: list[float]) -> None:
    print(f"solver {model.solver_!r}, passes over the data: {model.n_rounds_}")
    print(f"first fit {seconds[0]:.2f} s, second fit {seconds[1]:.2f} s")
    print()
    print(f"{'intercept':<12} {model.intercept_:>10.3f}")
    order = np.argsort(-np.abs(model.coef_))
    for name, value in zip(model.feature_names_in_[order], model.coef_[order], strict=True):
        print(f"{name:<12} {value:>10.3f}")
    print()


def compare(model: DistributedGDRegressor, X: np.ndarray, y: np.ndarray) -> None:
    start = time.perf_counter()
    ridge = Ridge(alpha=ALPHA * len(y)).fit(X, y)
    seconds = time.perf_counter() - start
    coefficients = np.abs(model.coef_ - ridge.coef_).max() / np.abs(ridge.coef_).max()
    theirs = objective(X, y, ridge.coef_, ridge.intercept_)
    ours = objective(X, y, model.coef_, model.intercept_)
    print(f"scikit-learn's Ridge on the same matrix, in memory: {seconds:.2f} s")
    print(f"largest difference of a coefficient, relative to the largest: {coefficients:.1e}")
    print(f"relative difference of the objective: {(ours - theirs) / theirs:.1e}")


def run(folder: Path) -> float:
    """Fit, print what came out, and return R2 of the year held out."""
    train, test = load(folder)
    X, y = train.drop(columns=TARGET), train[TARGET]
    X_test, y_test = test.drop(columns=TARGET), test[TARGET]

    model = DistributedGDRegressor(alpha=ALPHA)
    seconds = []
    # The first fit of a process also loads the compiled kernels; the second shows the work itself.
    for _ in range(2):
        start = time.perf_counter()
        model.fit(X, y)
        seconds.append(time.perf_counter() - start)

    X_local, y_local = dd.compute(X, y)
    print(f"{X_local.shape[0]:,} training rows x {X_local.shape[1]} columns, 2 workers")
    score = model.score(X_test, y_test)
    print(f"R2: {model.score(X, y):.4f} in training, {score:.4f} held out")
    report(model, seconds)
    compare(model, X_local.to_numpy(), y_local.to_numpy())
    return score


def data_folder(description: str) -> Path:
    """Return the folder from the command line or the environment, or exit with the remedy."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        help="folder with the twelve PRSA_Data_*.csv files "
        "(default: $DASK_DML_DATA/prsa_beijing_air)",
    )
    folder = parser.parse_args().folder
    if folder is None and "DASK_DML_DATA" in os.environ:
        folder = Path(os.environ["DASK_DML_DATA"]) / "prsa_beijing_air"
    if folder is None:
        parser.error("name the folder with the PRSA_Data_*.csv files, or set DASK_DML_DATA")
    if not any(folder.glob("PRSA_Data_*.csv")):
        sys.exit(f"{folder}: no PRSA_Data_*.csv files here")
    return folder


def main() -> None:
    folder = data_folder("Regress hourly PM2.5 in Beijing on other pollutants, weather and time.")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        score = run(folder)
    if score < 0.75:
        sys.exit(f"R2 {score:.4f} is less than expected")


if __name__ == "__main__":
    main()
