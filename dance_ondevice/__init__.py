"""DANCE on the device: data-network co-optimised, continual segmentation under an energy budget."""

__version__ = "0.2.0"
