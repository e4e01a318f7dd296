"""``dance-ondevice bench stream``: learning on a stream that changes, test first and then train."""
