"""Commands about model versions and base models."""
