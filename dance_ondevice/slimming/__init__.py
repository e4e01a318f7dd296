"""Network slimming: channel groups, their importance, and their removal."""
