"""Messages on the wire: codec, receiving and sending ends."""
