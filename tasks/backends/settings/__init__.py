"""Settings of training, sampling and resources."""
