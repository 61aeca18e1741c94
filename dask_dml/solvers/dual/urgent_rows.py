"""Rows that travel to the driver with their dual variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from dask_dml.blocks import Matrix


@dataclass(frozen=True)
class UrgentRows:
    """Rows with their labels, dual variables and costs; ``+`` puts them one after the other."""

    X: Matrix
    sign: np.ndarray
    alpha: np.ndarray
    cost: np.ndarray

    def __add__(self, other: UrgentRows) -> UrgentRows:
        return joined([self, other])


def joined(parts: Sequence[UrgentRows]) -> UrgentRows:
    """Return rows of several parts, one after the other."""
    some = [part for part in parts if len(part.sign)] or list(parts[:1])
    if len(some) == 1:
        return some[0]
    if any(sp.issparse(part.X) for part in some):
        X = sp.vstack([sp.csr_array(part.X) for part in some], format="csr")
    else:
        X = np.concatenate([part.X for part in some])
    return UrgentRows(
        X,
        np.concatenate([part.sign for part in some]),
        np.concatenate([part.alpha for part in some]),
        np.concatenate([part.cost for part in some]),
    )
