"""Prefect deployments, the forms of their parameters, and a temporary server for single commands."""
