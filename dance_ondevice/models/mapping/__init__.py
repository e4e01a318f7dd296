"""Class maps: a network that tells some classes apart, used for a site's own list."""
