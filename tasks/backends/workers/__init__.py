"""Processes and Ray actors in which backends run, and their clients."""
