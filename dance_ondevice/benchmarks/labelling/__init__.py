"""``bench labelling``: what a person's few taps teach, beside frames at random and whole labels."""
