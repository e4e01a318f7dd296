"""What people look at and correct in a browser: frames, samples, rounds, joules, and labels by hand."""
