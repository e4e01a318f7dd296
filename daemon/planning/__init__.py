"""Planning of a round: its samples, its size, its joules, and whether it pays."""
