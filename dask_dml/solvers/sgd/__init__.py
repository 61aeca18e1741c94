"""Stochastic gradient descent on every node."""
