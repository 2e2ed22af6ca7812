"""Find exact, near and semantic duplicates."""
