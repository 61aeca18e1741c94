"""Shard functions: what one visit of a shard computes, and how two results are added."""
