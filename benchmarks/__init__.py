"""Benchmarks: figures, and how they were got."""
