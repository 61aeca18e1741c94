"""Story 9: the cluster is closed, and the model goes on, where Dask is not even installed."""

import json
import subprocess
import sys

FIT = """
import pickle, sys
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from dask_dml import DistributedGDRegressor, DistributedLinearSVC, DistributedSGDRegressor
from dask_dml.preprocessing import DistributedStandardScaler

def main():
    X = np.random.default_rng(0).normal(size=(300, 3)) + 2.0
    y = X @ [1.0, 2.0, -1.0]
    templates = {
        "GD": DistributedGDRegressor(),
        "SGD": DistributedSGDRegressor(random_state=0),
        "SVC": DistributedLinearSVC(),
        "scaler": DistributedStandardScaler(),
        "pipeline": make_pipeline(DistributedStandardScaler(), DistributedGDRegressor()),
    }
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False,
                      dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        dX, dy = da.from_array(X, chunks=(80, 3)), da.from_array(y, chunks=80)
        fitted = {name: model.fit(dX, dy > 4.0 if name == "SVC" else dy)
                  for name, model in templates.items()}
    there = {}
    for name, model in fitted.items():
        act = model.transform if name == "scaler" else model.predict
        there[name] = act(X)
        assert type(there[name]) is np.ndarray
        twin = clone(model)
        assert str(twin.get_params()) == str(model.get_params())
        assert not hasattr(twin, "n_features_in_")
        twin.fit(X, y > 4.0 if name == "SVC" else y)  # without a cluster, too
    with open(sys.argv[1], "wb") as file:
        pickle.dump((X, fitted, there), file)

if __name__ == "__main__":
    main()
"""

#: A bare process: whoever imports Dask gets an ImportError.
PREDICT = """
import json, pickle, sys
for name in ("dask", "distributed", "numba"):
    sys.modules[name] = None
import numpy as np
from sklearn.base import clone
with open(sys.argv[1], "rb") as file:
    X, fitted, there = pickle.load(file)
same = {}
for name, model in fitted.items():
    act = model.transform if name == "scaler" else model.predict
    same[name] = bool(np.array_equal(act(X), there[name]))
    clone(model)
    repr(model)
    if name == "SVC":
        same["decisions"] = model.decision_function(X).shape == (300,)
        same["accuracy"] = bool(model.score(X, there[name]) == 1.0)
    elif name == "scaler":
        same["inverse"] = bool(np.allclose(model.inverse_transform(model.transform(X)), X))
    else:
        same[name + " R2"] = bool(model.score(X, there[name]) > 1.0 - 1e-12)
    again = pickle.loads(pickle.dumps(model))
    same[name + " again"] = type(again) is type(model)
print(json.dumps(same))
"""


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_models_outlive_the_cluster(tmp_path):
    run(FIT, tmp_path / "models")
    same = json.loads(run(PREDICT, tmp_path / "models"))
    assert {"GD", "SGD", "SVC", "scaler", "pipeline", "accuracy", "inverse"} <= set(same)
    assert all(same.values()), same
