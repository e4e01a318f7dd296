"""ESPNetv2: its units, its pyramid head and the network."""
