"""One loop and the solvers that run in it; they see the rounds protocol only."""
