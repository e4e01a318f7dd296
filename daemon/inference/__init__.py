"""The inference thread: frames in, masks out, with the statistics of each condition."""
