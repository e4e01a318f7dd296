"""What a round is to do: which samples, how large, for how many joules, and whether it pays."""
