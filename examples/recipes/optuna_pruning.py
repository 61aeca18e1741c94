"""Search for a penalty with Optuna, which ends trials that do badly before they are finished."""

import numpy as np
import optuna

from dask_dml import DistributedGDRegressor


class Pruner:
    """Report the score after every round, and end the trial where Optuna says so."""

    def __init__(self, trial, X, y):
        self.trial, self.X, self.y = trial, X, y
        self.step = 0

    def setup(self, estimator, context):
        self.step = 0

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name != "round":
            return
        self.trial.report(fitted_estimator.score(self.X, self.y), self.step)
        self.step += 1
        if self.trial.should_prune():
            raise optuna.TrialPruned


def main(n_trials=12):
    """Return the study."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000, 30))
    y = X[:, :5].sum(axis=1) + rng.standard_t(3, size=2_000)
    train, held_out = slice(0, 1_500), slice(1_500, None)

    def objective(trial):
        alpha = trial.suggest_float("alpha", 1e-4, 1.0, log=True)
        model = DistributedGDRegressor("huber", penalty="l1", alpha=alpha, solver="accelerated")
        model.set_callbacks(Pruner(trial, X[held_out], y[held_out]))
        return model.fit(X[train], y[train]).score(X[held_out], y[held_out])

    study = optuna.create_study(
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    study.optimize(objective, n_trials=n_trials)
    return study


if __name__ == "__main__":
    found = main()
    print(f"best alpha {found.best_params['alpha']:.2g}, R2 {found.best_value:.3f}")
