"""
Residuals of any number of rows
===============================

A scatter plot needs all rows in one process. :class:`dask_dml.display.PredictionsDisplay` has every
chunk count its rows in the cells of a grid, and draws the counts.
"""

import dask.array as da
import matplotlib.pyplot as plt

from dask_dml import DistributedGDRegressor
from dask_dml.display import CoefficientDisplay, PredictionsDisplay

rng = da.random.default_rng(0)
X = rng.normal(size=(200_000, 8), chunks=(50_000, 8))
noise = rng.standard_t(4, size=200_000, chunks=50_000)
y = X[:, 0] + 2 * X[:, 1] - X[:, 2] + 0.3 * X[:, 0] ** 2 + noise

model = DistributedGDRegressor("huber").fit(X, y)

# %%
# The bend below is the square that a linear model cannot follow.
PredictionsDisplay.from_estimator(model, X, y)
plt.show()

# %%
# The largest coefficients.
CoefficientDisplay.from_estimator(model)
plt.show()
