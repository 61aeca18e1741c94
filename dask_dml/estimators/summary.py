"""What a notebook shows of a fitted estimator."""

from __future__ import annotations

import html
import math
from typing import Any

#: Where the documentation of the release is.
DOCUMENTATION = "https://dask-dml.readthedocs.io/en/stable/"

_ENGINES = {
    "memory": "in this process",
    "cluster": "on the workers of a cluster",
    "streaming": "read anew in every pass",
}


def fit_summary(estimator: Any) -> dict[str, str]:
    """Return in words what a fit has come to.

    Parameters
    ----------
    estimator : estimator
        Fitted or not.

    Returns
    -------
    facts : dict of str to str
        Problem, data, solver, engine, passes, gap and time, as far as they are known; nothing
        before a fit.
    """
    if not hasattr(estimator, "coef_") or not hasattr(estimator, "n_rounds_"):
        return {}
    facts = {"problem": _problem(estimator), "data": _shape(estimator)}
    if hasattr(estimator, "solver_"):
        facts["solver"] = estimator.solver_
    facts["engine"] = f"{estimator.engine_} ({_ENGINES[estimator.engine_]})"
    facts["passes"] = str(estimator.n_rounds_)
    gap = getattr(estimator, "duality_gap_", math.inf)
    if math.isfinite(gap):
        facts["duality gap"] = f"{gap:.1e}"
    facts["converged"] = "yes" if estimator.converged_ else "no"
    if hasattr(estimator, "fit_seconds_"):
        facts["time"] = f"{estimator.fit_seconds_:.3g} s"
    return facts


def fit_html(estimator: Any) -> str:
    """Return `fit_summary` as a table, and nothing before a fit."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(said)}</td></tr>"
        for name, said in fit_summary(estimator).items()
    )
    if not rows:
        return ""
    return (
        f"<table><caption>{type(estimator).__name__}, fitted "
        f"(<a href='{DOCUMENTATION}'>documentation</a>)</caption>{rows}</table>"
    )


def _problem(estimator: Any) -> str:
    said = [str(getattr(estimator, "loss", "squared_error"))]
    penalty = getattr(estimator, "penalty", None)
    strength = "C" if hasattr(estimator, "C") else "alpha"
    value = getattr(estimator, f"{strength}_", getattr(estimator, strength, None))
    if penalty is None:
        said.append("no penalty")
    else:
        said.append(f"{penalty} penalty, {strength}={value:.4g}")
    classes = getattr(estimator, "classes_", ())
    if len(classes) > 2:
        said.append(f"{len(classes)} classes, each against the rest")
    return ", ".join(said)


def _shape(estimator: Any) -> str:
    rows = getattr(estimator, "_n_samples", None)
    columns = f"{estimator.n_features_in_:,} columns"
    return columns if rows is None else f"{rows:,} rows, {columns}"
