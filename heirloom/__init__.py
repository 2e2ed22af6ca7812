"""Code that every layer may import."""
