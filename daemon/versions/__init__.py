"""Versions of the model on disk, and which of them is live."""
