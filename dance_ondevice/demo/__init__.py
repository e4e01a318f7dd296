"""The demonstration: the real daemon learns a synthetic street while its light and weather change."""
