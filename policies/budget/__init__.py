"""Decisions about joules."""
