"""Embed texts as vectors, and cluster the vectors."""
