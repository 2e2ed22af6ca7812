"""Storage remembers: tables and folders that are absent or finished, and the questions asked of them."""
