"""Conditions (day, dusk, rain): normalisation statistics of their own beside shared weights."""
