"""The report of a demonstration: its figures, what they mean, and how they are shown."""
