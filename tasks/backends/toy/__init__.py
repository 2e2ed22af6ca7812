"""Small models for demonstrations and tests: n-gram, Gaussian mixture, variational autoencoder."""
