"""
What fits cost: passes over the data
====================================

Reading the data takes most of the time of a fit, so passes tell what it costs on any machine. On
the left is the way from a table with gaps and words to a model, as ``examples/bench_table.py`` has
counted the reads of 1,000,000 rows. On the right are ten penalties on five folds, counted here: a
callback is told of every pass that a search makes, the one of the last fit to all rows included.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import KFold

from dask_dml import DistributedGDRegressor, DistributedGDRegressorCV
from dask_dml.model_selection import DistributedGridSearchCV


class Passes:
    """Counts the passes of a search."""

    n_passes = 0

    def setup(self, estimator, context):
        """Do nothing."""

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context):
        """Count rounds."""
        self.n_passes += context.task_name == "round"


rng = np.random.default_rng(0)
X = rng.normal(size=(20_000, 10))
y = X[:, :3].sum(axis=1) + rng.standard_t(3, size=20_000)
alphas, folds = np.geomspace(1e-4, 1e-1, 10), KFold(5)


def one_by_one(loss):
    fits = [
        DistributedGDRegressor(loss, alpha=alpha).fit(X[rows], y[rows])
        for alpha in alphas
        for rows, _ in folds.split(X)
    ]
    return sum(fit.n_rounds_ for fit in fits)


def together(loss):
    counter = Passes()
    search = DistributedGridSearchCV(DistributedGDRegressor(loss), {"alpha": alphas}, cv=folds)
    search.set_callbacks(counter).fit(X, y)
    return counter.n_passes


searches = {
    "Huber, 50 fits one by one": one_by_one("huber"),
    "Huber, DistributedGridSearchCV": together("huber"),
    "squared error, 50 fits one by one": one_by_one("squared_error"),
    "squared error, DistributedGDRegressorCV": DistributedGDRegressorCV(alphas=alphas, cv=folds)
    .fit(X, y)
    .n_rounds_,
}
tables = {
    "dask-ml: impute and scale numbers, fit": 14.0,
    "dask_dml: impute, scale, encode, fit": 3.0,
}

fig, axes = plt.subplots(1, 2, figsize=(11, 2.6), layout="constrained", width_ratios=[1, 1.3])
titles = ["from a table to a model", "ten penalties on five folds"]
for ax, title, bars in zip(axes, titles, [tables, searches], strict=True):
    colors = ["C0" if "istributed" in name or "dask_dml" in name else "0.7" for name in bars]
    drawn = ax.barh(list(bars), list(bars.values()), color=colors)
    ax.bar_label(drawn, fmt="%.0f", padding=3)
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.set(title=title, xlabel="passes over the data")
axes[1].set_xscale("log")
plt.show()
