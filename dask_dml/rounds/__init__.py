"""The layer between the solvers and the data: it alone knows about threads and clusters."""

from __future__ import annotations

from dask_dml.rounds.base import Rounds, ShardFunction, StateFunction, StateLost
from dask_dml.rounds.choose import open_rounds

__all__ = ["Rounds", "ShardFunction", "StateFunction", "StateLost", "open_rounds"]
