"""Embed texts, and cluster the vectors."""
