"""The demonstration: the real daemon learns a synthetic street whose light and weather change."""
