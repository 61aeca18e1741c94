"""Which kind of container a value is; nothing here imports Dask."""

from __future__ import annotations

import sys
from typing import Any


def is_dask(value: Any) -> bool:
    """Whether a value is a Dask collection; never imports Dask."""
    dask = sys.modules.get("dask")
    return dask is not None and bool(dask.is_dask_collection(value))


def is_frame(value: Any) -> bool:
    """Whether a value is a dask DataFrame or Series; never imports dask.dataframe."""
    module = sys.modules.get("dask.dataframe")
    return module is not None and isinstance(value, module.DataFrame | module.Series)


def is_bag(value: Any) -> bool:
    """Whether a value is a Dask bag; never imports dask.bag."""
    module = sys.modules.get("dask.bag")
    return module is not None and isinstance(value, module.Bag)


def is_array(value: Any) -> bool:
    """Whether a value is a dask array; never imports dask.array."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(value, module.Array)
