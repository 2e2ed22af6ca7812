"""Benchmark of the loop against all trainings on human text alone."""
