"""Execute and check answers in a sandbox."""
