"""What fitted models say about features."""

from dask_dml.inspection.coefficients import coefficients

__all__ = ["coefficients"]
