"""Decisions about rounds: when, on what, how far to slim."""
