"""The estimators that users import: documentation, parameters and the choice of a solver."""
