"""What the runs of chaos fit, and when two answers are the same."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import scipy.sparse as sp
from sklearn.pipeline import make_pipeline

from dask_dml import (
    DistributedGDRegressor,
    DistributedGDRegressorCV,
    DistributedLinearSVC,
    DistributedLinearSVCCV,
    DistributedSGDRegressor,
)
from dask_dml.model_selection import DistributedGridSearchCV, DistributedKFold
from dask_dml.preprocessing import (
    DistributedRobustScaler,
    DistributedSimpleImputer,
    DistributedStandardScaler,
)
from dask_dml.rounds import choose
from tests.chaos.data import (
    CHUNK_ROWS,
    N_CHUNKS,
    N_FEATURES,
    frame_rows,
    rows,
    sparse_rows,
    targets,
)

#: Results depend on the shards where they depend on anything: so their number is fixed.
SHARDS = {"n_shards": 4}


def _gd(*args, **options):
    return lambda: DistributedGDRegressor(*args, **SHARDS, **options)


def _sgd(*args, **options):
    return lambda: DistributedSGDRegressor(*args, random_state=0, **SHARDS, **options)


def _svc(**options):
    return lambda: DistributedLinearSVC(**SHARDS, **options)


FOLDS = DistributedKFold(3, shuffle=True, random_state=0)

#: What is fitted, and what is promised of two fits: the same bits, the same objective within
#: ``tol``, or (of fits by folds) the same choice with coefficients that are close.
FITS = {
    "gd statistics": (_gd(), "bits"),
    "gd plain": (_gd("huber", solver="gd", max_iter=20, tol=0.0), "objective"),
    "gd huber newton": (_gd("huber"), "objective"),
    "gd huber lbfgs": (_gd("huber", solver="lbfgs"), "objective"),
    "gd l1 accelerated": (
        _gd("huber", solver="accelerated", penalty="l1", alpha=0.01),
        "objective",
    ),
    "gd quantile": (_gd("quantile"), "objective"),
    "sgd svrg": (_sgd(), "bits"),
    "sgd averaged": (_sgd("huber", variance_reduction=None, max_iter=8, tol=None), "bits"),
    "sgd partial_fit": (_sgd("huber"), "bits"),
    "svc newton": (_svc(tol=1e-5), "objective"),
    "svc hinge newton": (_svc(loss="hinge", solver="newton", tol=1e-4), "objective"),
    "svc l1": (_svc(penalty="l1", tol=1e-3), "objective"),
    "svc dual hinge": (_svc(loss="hinge", solver="dual", tol=1e-5), "objective"),
    "svc dual squared": (_svc(solver="dual", tol=1e-4), "objective"),
    "scaler": (lambda: DistributedStandardScaler(with_mean=False), "bits"),
    "robust scaler": (lambda: DistributedRobustScaler(with_centering=False), "bits"),
    "imputer": (lambda: DistributedSimpleImputer(strategy="median"), "bits"),
    "pipeline": (
        lambda: make_pipeline(DistributedStandardScaler(with_mean=False), _gd()()),
        "bits",
    ),
    "regressor by folds": (
        lambda: DistributedGDRegressorCV(alphas=[1e-3, 1e-1], cv=FOLDS, **SHARDS),
        "choice",
    ),
    "classifier by folds": (
        lambda: DistributedLinearSVCCV(Cs=[1e-3, 1e-1], cv=FOLDS, **SHARDS),
        "choice",
    ),
    "search": (
        lambda: DistributedGridSearchCV(_gd("huber")(), {"alpha": [1e-3, 1e-1]}, cv=FOLDS),
        "choice",
    ),
}
TRANSFORMERS = ("scaler", "robust scaler", "imputer")
CONTAINERS = ("dense", "csr", "frame")
PLACES = ("persisted", "lazy", "streaming")


def is_classifier(name):
    return name.startswith(("svc", "classifier"))


def made(container, classes):
    """Return lazy data."""
    y = da.concatenate(
        [
            da.from_delayed(dask.delayed(targets)(n, classes), (CHUNK_ROWS,), dtype=float)
            for n in range(N_CHUNKS)
        ]
    )
    if container == "frame":
        return dd.from_map(frame_rows, range(N_CHUNKS), meta=frame_rows(0)[:0]), y
    make = sparse_rows if container == "csr" else rows
    meta = sp.csr_array((0, N_FEATURES)) if container == "csr" else np.empty((0, 0))
    shape = (CHUNK_ROWS, N_FEATURES)
    parts = [
        da.from_delayed(dask.delayed(make)(n), shape, dtype=float, meta=meta)
        for n in range(N_CHUNKS)
    ]
    return da.concatenate(parts), y


def fit(name, data, place, client):
    """Fit a model on a client's cluster, or on threads of this process."""
    model, (X, y) = FITS[name][0](), data
    with ExitStack() as stack:
        if client is None:
            stack.enter_context(mock.patch.object(choose, "current_client", return_value=None))
        else:
            stack.enter_context(client.as_current())
        if place == "streaming":
            # Each round takes some hundred tasks.
            model.set_params(**({"tol": 1e-2} if is_classifier(name) else {}))
            stack.enter_context(mock.patch.object(choose, "_fits", return_value=False))
        if name in TRANSFORMERS:
            return model.fit(X)
        if name == "sgd partial_fit":
            return model.partial_fit(X, y).partial_fit(X, y)
        return model.fit(X, y)


def answer(model):
    """Return what was learnt as one array."""
    if hasattr(model, "steps"):
        return np.append(answer(model[0]), answer(model[-1]))
    if hasattr(model, "best_estimator_"):
        scores = model.cv_results_["mean_test_score"]
        return np.concatenate([[model.best_index_], scores, answer(model.best_estimator_)])
    if hasattr(model, "coef_"):
        chosen = [getattr(model, name) for name in ("alpha_", "C_") if hasattr(model, name)]
        return np.concatenate([np.ravel(one) for one in (*chosen, model.coef_, model.intercept_)])
    names = ("mean_", "var_", "center_", "scale_", "statistics_")
    learnt = [getattr(model, name, None) for name in names]
    return np.concatenate([np.ravel(one) for one in learnt if one is not None])


def same(name, found, expected):
    """Return whether two fitted models are what is promised."""
    if FITS[name][1] == "bits":
        return np.array_equal(answer(found), answer(expected))
    if FITS[name][1] == "choice":
        return np.allclose(answer(found), answer(expected), rtol=1e-2, atol=1e-3)
    rtol = 2 * (found.tol or 1e-9)
    if hasattr(found, "objective_"):
        return np.allclose(found.objective_, expected.objective_, rtol=rtol, atol=0)
    return np.allclose(found.loss_curve_[-1], expected.loss_curve_[-1], rtol=rtol)
