"""Snapshots of human data and eval sets."""
