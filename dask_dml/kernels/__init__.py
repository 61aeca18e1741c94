"""Compiled passes over one block: dense and CSR twins side by side."""
