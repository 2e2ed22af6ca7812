"""Sketch indexes and partitioned scratch space on disk."""
