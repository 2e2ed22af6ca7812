"""The loop beside every training on human text alone that we know."""
