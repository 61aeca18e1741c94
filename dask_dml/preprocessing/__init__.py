"""Transformers that learn where the rows are."""

from dask_dml.preprocessing.blockwise import BlockwiseTransformer
from dask_dml.preprocessing.encoders import DistributedOneHotEncoder, DistributedOrdinalEncoder
from dask_dml.preprocessing.imputer import DistributedSimpleImputer
from dask_dml.preprocessing.quantiles import DistributedQuantileTransformer
from dask_dml.preprocessing.scaler import DistributedStandardScaler
from dask_dml.preprocessing.scalers import (
    DistributedMaxAbsScaler,
    DistributedMinMaxScaler,
    DistributedRobustScaler,
)

__all__ = [
    "BlockwiseTransformer",
    "DistributedMaxAbsScaler",
    "DistributedMinMaxScaler",
    "DistributedOneHotEncoder",
    "DistributedOrdinalEncoder",
    "DistributedQuantileTransformer",
    "DistributedRobustScaler",
    "DistributedSimpleImputer",
    "DistributedStandardScaler",
]
