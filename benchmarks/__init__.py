"""Every number that is claimed anywhere, and the command that writes it: `python -m benchmarks NAME`."""
