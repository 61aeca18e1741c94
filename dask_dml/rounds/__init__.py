"""The layer between the solvers and the data: it alone knows about threads and clusters."""

from __future__ import annotations

from dask_dml.rounds.base import Rounds, ShardFunction, StateFunction, StateLost
from dask_dml.rounds.choose import open_rounds, visit_once
from dask_dml.rounds.plan import check_rows

__all__ = [
    "Rounds",
    "ShardFunction",
    "StateFunction",
    "StateLost",
    "check_rows",
    "open_rounds",
    "visit_once",
]
