"""Segmentation models: architectures, the registry, forward passes, costs and checkpoints."""
