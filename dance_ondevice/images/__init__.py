"""Images and label masks: decoding, headers, and signatures to find near-duplicates."""
