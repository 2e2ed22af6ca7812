"""Recipe and site settings, and how they are loaded."""
