"""Artifacts: folders that are absent or finished, their schemas, ids and provenance."""
