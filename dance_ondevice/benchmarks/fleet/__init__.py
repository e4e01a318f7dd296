"""``dance-ondevice bench fleet``: boards that learn together, against boards that learn alone."""
