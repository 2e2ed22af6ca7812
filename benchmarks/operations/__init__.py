"""Kills, restarts, schedules and the overhead of orchestration."""
