"""Search for the loss and the penalty of the air quality regression, end to end.

The rows come from `air_quality.py`: twelve stations, one partition each, of unknown lengths. Six
folds of consecutive rows hold out about two stations each, so that the scores say how the model
does where nothing has been measured.

Usage: python examples/air_quality_search.py [FOLDER]
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
from air_quality import TARGET, data_folder, load
from dask.distributed import Client, LocalCluster

from dask_dml import DistributedGDRegressor
from dask_dml.model_selection import DistributedGridSearchCV

GRID = {
    "loss": ["squared_error", "huber"],
    "epsilon": [30.0],
    "alpha": np.geomspace(1e-4, 1.0, 5).tolist(),
}


def run(folder: Path) -> DistributedGridSearchCV:
    """Search, print the best candidates of each loss, and return the search."""
    train, test = load(folder)
    X, y = train.drop(columns=TARGET), train[TARGET]
    start = time.perf_counter()
    DistributedGDRegressor("huber", epsilon=30.0).fit(X, y)
    single = time.perf_counter() - start
    search = DistributedGridSearchCV(
        DistributedGDRegressor(),
        GRID,
        cv=6,
        scoring=["r2", "neg_mean_absolute_error"],
        refit="neg_mean_absolute_error",
    )
    start = time.perf_counter()
    search.fit(X, y)
    seconds = time.perf_counter() - start
    results = pd.DataFrame(search.cv_results_)
    n_fits = len(results) * search.n_splits_
    print(f"{n_fits} fits in {seconds:.2f} s; one fit with Huber's loss in {single:.2f} s")
    for loss, rows in results.groupby("param_loss"):
        best = rows.loc[rows["mean_test_neg_mean_absolute_error"].idxmax()]
        print(
            f"{loss:14} alpha {best['param_alpha']:.4f}: "
            f"R2 {best['mean_test_r2']:.3f}, "
            f"mean absolute error {-best['mean_test_neg_mean_absolute_error']:.2f} "
            f"+- {best['std_test_neg_mean_absolute_error']:.2f} ug/m3"
        )
    last_year = search.best_estimator_.score(test.drop(columns=TARGET), test[TARGET])
    print(f"chosen: {search.best_params_}; R2 of the last year: {last_year:.3f}")
    return search


def main() -> None:
    folder = data_folder("Search for the loss and the penalty of the air quality regression.")
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster),
    ):
        run(folder)


if __name__ == "__main__":
    main()
