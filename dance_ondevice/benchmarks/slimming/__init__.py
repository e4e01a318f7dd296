"""``bench slimming``: variants of one training, each in a process of its own, side by side."""
