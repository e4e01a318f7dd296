"""Decisions about frames as they arrive."""
