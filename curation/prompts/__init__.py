"""Plan the prompts of a generation."""
