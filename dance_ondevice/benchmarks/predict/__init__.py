"""``bench predict``: how long a mask takes, alone and beside a round, and by which engine."""
