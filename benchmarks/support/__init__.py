"""Servers that benchmarks and tests share."""
