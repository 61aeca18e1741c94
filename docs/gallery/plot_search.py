"""
A search over two parameters
============================

Any search of scikit-learn's takes a pipeline with one of the estimators. The picture has a curve
for each value of the second parameter.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dask_dml import DistributedGDRegressor
from dask_dml.display import CVCurveDisplay

X, y = load_diabetes(return_X_y=True)
pipeline = make_pipeline(StandardScaler(), DistributedGDRegressor(penalty="elasticnet"))
grid = {
    "distributedgdregressor__alpha": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
    "distributedgdregressor__l1_ratio": [0.1, 0.5, 0.9],
}
search = GridSearchCV(pipeline, grid, cv=5).fit(X, y)

CVCurveDisplay.from_estimator(search)
plt.show()
