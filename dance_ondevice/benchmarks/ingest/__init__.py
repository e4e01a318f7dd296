"""``bench ingest``: how many frames a second the daemon takes, against the least a receiver must do."""
