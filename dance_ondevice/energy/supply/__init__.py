"""Selection of the power channels that measure the board: labels, wholes and parts, and fallbacks."""
