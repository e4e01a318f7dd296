"""``bench blend``: how far statistics that are measured without labels should be believed."""
