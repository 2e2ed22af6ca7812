"""Load models and adapters, and score texts with them."""
