"""Time the package beside its peers: ``python -m examples.benchmarks --help``."""
