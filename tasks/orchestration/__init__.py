"""Prefect decorators, task runners, progress reports and parallel map for the stages."""
