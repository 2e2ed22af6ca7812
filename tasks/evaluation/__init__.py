"""Stage `evaluate`: eval samples, perplexity, text metrics, custom metrics and the forecast."""
