"""
Solvers against each other
==========================

How far four solvers are from the optimum after each pass over the data, with Huber's loss.
``solver="auto"`` takes ``"newton"`` here. Gradient descent works on the columns as they are, and
is as slow as they are unequal.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from dask_dml import DistributedGDRegressor
from dask_dml.display import ConvergenceDisplay

rng = np.random.default_rng(0)
X = rng.normal(size=(5_000, 20)) * np.geomspace(0.3, 3.0, 20)
y = X.sum(axis=1) + rng.standard_t(3, size=5_000)

models = {}
for solver in ("newton", "lbfgs", "accelerated", "gd"):
    model = DistributedGDRegressor("huber", solver=solver, max_iter=150)
    with warnings.catch_warnings():
        # Gradient descent does not get there in 150 passes, and says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        models[solver] = model.fit(X, y)

ConvergenceDisplay.from_estimator(models, y="excess")
plt.show()
