"""Images and label masks: decoding, headers, and signatures of likeness."""
