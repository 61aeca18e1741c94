"""Transformers for the columns of a table."""

from dask_dml.compose.column_transformer import (
    DistributedColumnTransformer,
    make_distributed_column_transformer,
)

__all__ = ["DistributedColumnTransformer", "make_distributed_column_transformer"]
