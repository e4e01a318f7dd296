"""``bench step``: CPU time of a training step, beside that of another build of this package."""
