"""Runs: journal, status, forks."""
