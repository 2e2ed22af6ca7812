"""Stage `generate`: plan prompts and sample candidates."""
