"""Shows masks over their frames, as images and on one page."""
