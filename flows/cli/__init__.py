"""The command line, `heirloom`."""
