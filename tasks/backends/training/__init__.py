"""Training of transformers: model, data, optimizer, loss, callbacks, trainer, export."""
