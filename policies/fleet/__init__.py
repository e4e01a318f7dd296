"""Decisions of a fleet's server: what an update counts, when a version is made, and when it is published."""
