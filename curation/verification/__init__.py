"""Checks of answers that can be right or wrong, and the accounting of what a verifier keeps."""
