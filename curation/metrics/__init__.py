"""Metrics of a generation: diversity, coverage, perplexity, collapse tests, filter rates."""
