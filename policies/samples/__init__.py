"""Decisions about stored samples."""
