"""The fleet's two processes: the server that averages what boards offer, and the board's link to it."""
