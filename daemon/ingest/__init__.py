"""The path of a frame from the socket to the store's queue: admission, score, decision."""
