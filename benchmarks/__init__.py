"""Benchmarks: every published number and the command that writes it, `python -m benchmarks NAME`."""
