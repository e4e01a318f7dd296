"""A board's part in its fleet: what it offers, what it is offered, and the rounds that judge that."""
