"""Export corpora and models with their cards."""
