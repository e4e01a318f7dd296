"""Readers of labelled street scenes, and the synthetic street camera."""
