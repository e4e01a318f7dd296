"""``bench step``: what a training step costs here, beside another build of this package."""
