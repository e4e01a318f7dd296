"""Conditions (day, dusk, rain): each has its own normalisation statistics, and all share the weights."""
