"""FilterName `generate`: plan prompts and sample candidates."""
