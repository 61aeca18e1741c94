"""
Choosing the penalty
====================

One pass over the data collects the second moments of every fold. All penalties of the path, in all
folds, are then solved from them.
"""

import dask.array as da
import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes

from dask_dml import DistributedGDRegressorCV
from dask_dml.display import CVCurveDisplay, PathDisplay

X, y = load_diabetes(return_X_y=True)
X, y = da.from_array(X / X.std(axis=0), chunks=(100, -1)), da.from_array(y, chunks=100)

# %%
# ``selection="1se"`` takes the strongest penalty whose error is within one standard error of the
# best.
model = DistributedGDRegressorCV(penalty="l1", selection="1se").fit(X, y)
CVCurveDisplay.from_estimator(model)
plt.show()

# %%
# The coefficients along the path, with that penalty marked.
PathDisplay.from_estimator(model, X, y)
plt.show()
