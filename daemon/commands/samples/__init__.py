"""Commands about stored samples and their labels."""
