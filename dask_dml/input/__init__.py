"""From what the caller holds to row chunks: kinds of containers, alignment and checks."""
