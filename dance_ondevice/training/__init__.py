"""Training on a device: batches, losses, evaluation, and the trainer itself."""
