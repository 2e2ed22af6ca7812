"""What the stages need of Prefect and of processes: decorators, runners, events, progress, parallel map."""
