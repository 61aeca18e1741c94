"""What fitted models say about features."""

from dask_dml.inspection.coefficients import coefficients
from dask_dml.inspection.permutation import permutation_importance

__all__ = ["coefficients", "permutation_importance"]
