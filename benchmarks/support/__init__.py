"""Servers shared by benchmarks and tests."""
