"""Which of a machine's power channels is the board: labels, wholes and parts, and who gives way to whom."""
