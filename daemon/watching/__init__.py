"""What people look at: masks over their frames, as images and on one page."""
