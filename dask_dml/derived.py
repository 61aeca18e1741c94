"""Values that are computed from a block once, and kept as long as the block itself is.

A node that visits its rows again and again finds there what it has made of them.  Where blocks are
not kept (see `dask_dml.rounds.streaming`), or have been moved or spilled, the value is computed
anew: nothing depends on it but time.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

from dask_dml.blocks import Block

T = TypeVar("T")

_values: dict[int, tuple[weakref.ref[Block], dict[Hashable, object]]] = {}


def derived(block: Block, key: Hashable, compute: Callable[[], T]) -> T:
    """Return the block's value of that key.

    Parameters
    ----------
    block : Block
        What the value is computed from.
    key : hashable
        Which value.
    compute : callable
        Returns the value; it must not refer to the block, or the block would never go.
    """
    if not block.kept:
        return compute()
    number = id(block)
    entry = _values.get(number)
    if entry is None or entry[0]() is not block:
        entry = (weakref.ref(block, lambda _: _values.pop(number, None)), {})
        _values[number] = entry
    values = entry[1]
    if key not in values:
        values[key] = compute()
    return cast("T", values[key])
