"""Verify, clean up and erase."""
