"""Dask tasks over chunks of the input, in the shape that all engines share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dask.delayed import Delayed, delayed

from dask_dml.blocks import Block, Shard, concatenate
from dask_dml.input.chunks import Chunks, make_block

#: All keys of the package begin with this: what a fit leaves behind can be looked for.
PREFIX = "dask_dml-"


def chunk_name(number: int) -> str:
    """Return a chunk in words."""
    return f"chunk {number} of the input"


def group_name(group: range) -> str:
    """Return consecutive chunks in words."""
    if len(group) == 1:
        return chunk_name(group[0])
    return f"one of the chunks {group[0]} to {group[-1]} of the input"


def chunk_tasks(
    chunks: Chunks,
    function: Callable[..., Any],
    keys: Sequence[str],
    extra: Mapping[int, tuple[Any, ...]],
) -> list[Delayed]:
    """Return a task ``function(X, y, weight, number, spec, *extra)`` for some chunks.

    Parameters
    ----------
    chunks : Chunks
        Lazy input.
    function : callable
        A function of this module, or one that begins with the same parameters.
    keys : sequence of str
        Keys of the tasks.
    extra : mapping of int to tuple
        Further arguments by the number of the chunk; other chunks get no task.
    """
    spec = block_spec(chunks)
    task = delayed(function, pure=False, traverse=False)
    weight = chunks.weight
    return [
        task(
            chunks.X[number],
            chunks.y[number],
            None if weight is None else weight[number],
            number,
            spec,
            *arguments,
            dask_key_name=key,
        )
        for key, (number, arguments) in zip(keys, extra.items(), strict=True)
    ]


def block_spec(chunks: Chunks) -> dict[str, Any]:
    """Return the arguments of `make_block` that are the same for all chunks."""
    return {
        "n_features": chunks.n_features,
        "n_outputs": chunks.n_outputs,
        "dtype": chunks.dtype,
    }


def to_block(X: Any, y: Any, weight: Any, number: int, spec: Mapping[str, Any]) -> Block:
    """Convert a chunk to a block."""
    with _Named(number):
        return make_block(X, y, weight, number=number, **spec)


def to_blocks(
    Xs: Sequence[Any],
    ys: Sequence[Any],
    weights: Sequence[Any],
    numbers: Sequence[int],
    spec: Mapping[str, Any],
) -> Block:
    """Convert consecutive chunks to one block."""
    blocks = [to_block(*chunk, spec) for chunk in zip(Xs, ys, weights, numbers, strict=True)]
    return concatenate([block for block in blocks if block.n_rows] or blocks[:1])


def count_rows(X: Any, y: Any, weight: Any, number: int, spec: Mapping[str, Any]) -> int:
    """Return the number of rows of a chunk."""
    return to_block(X, y, weight, number, spec).n_rows


def visit_chunk(
    X: Any,
    y: Any,
    weight: Any,
    number: int,
    spec: Mapping[str, Any],
    shard: int,
    function: Callable[[Shard, Any], Any],
    broadcast: Any,
) -> Any:
    """Evaluate a shard function on a shard that consists of one chunk."""
    block = to_block(X, y, weight, number, spec)
    with _Named(number):
        return function(Shard(shard, (block,)), broadcast)


def update_chunk(
    X: Any,
    y: Any,
    weight: Any,
    number: int,
    spec: Mapping[str, Any],
    shard: int,
    function: Callable[[Shard, Any, Any], tuple[Any, Any]],
    broadcast: Any,
    state: Any,
) -> tuple[Any, Any]:
    """Evaluate a state function on a shard that consists of one chunk."""
    block = to_block(X, y, weight, number, spec)
    with _Named(number):
        return function(Shard(shard, (block,)), state, broadcast)


class _Named:
    """Adds a note naming the chunk to whatever is raised inside."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            error.add_note(f"raised in {chunk_name(self.number)} (chunks are counted from 0)")


def merge_blocks(blocks: Sequence[Block]) -> Block:
    """Return one block: of several, their rows in order; of one, the same, moved by Dask."""
    return concatenate(blocks)


def pick(values: Sequence[Any], position: int) -> Any:
    """Return one of several values."""
    return values[position]


def add_up(terms: Sequence[Any]) -> Any:
    """Return the sum of the terms, from left to right."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def add_up_parts(pairs: Sequence[tuple[Any, Any]], before: Any) -> Any:
    """Return the sum of the second of each pair, from left to right, after what comes before."""
    parts = [part for _, part in pairs]
    return add_up(parts if before is None else [before, *parts])
