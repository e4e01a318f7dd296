"""``bench ingest``: how many frames a second the daemon takes, against the least that any receiver must do."""
