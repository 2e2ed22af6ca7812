"""Ingest human text and eval sets: read, deduplicate, split."""
