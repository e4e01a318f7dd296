"""``bench base``: what the base model that comes with the package is worth on real cameras."""
