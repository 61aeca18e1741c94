"""Solvers that keep dual variables beside the rows."""
