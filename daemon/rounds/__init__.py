"""The rounds thread: start, training, gate, promotion, probation and teaching."""
