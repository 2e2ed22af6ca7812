"""Prefect deployments, their forms, and the temporary server."""
