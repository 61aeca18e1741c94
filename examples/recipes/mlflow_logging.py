"""Log a fit to MLflow: parameters, the objective of every round, and a model to load anywhere."""

import mlflow
import mlflow.sklearn
import numpy as np
import sklearn

from dask_dml import DistributedGDRegressor


class MLflowLog:
    """Log every round to the active run."""

    def setup(self, estimator, context):
        mlflow.log_params(estimator.get_params())

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "round":
            curve = fitted_estimator.loss_curve_
            mlflow.log_metric("objective", curve[-1], step=len(curve) - 1)


def main():
    """Return the run's identifier and the fitted model."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000, 30))
    y = X[:, :5].sum(axis=1) + rng.standard_t(3, size=2_000)
    model = DistributedGDRegressor("huber").set_callbacks(MLflowLog())
    with mlflow.start_run() as run:
        model.fit(X, y)
        # A model of scikit-learn's own: it loads where this package is not installed. MLflow would
        # start a process to find out what it needs.
        mlflow.sklearn.log_model(
            model.to_sklearn(),
            name="model",
            pip_requirements=[f"scikit-learn=={sklearn.__version__}"],
        )
    return run.info.run_id, model


if __name__ == "__main__":
    print(main())
