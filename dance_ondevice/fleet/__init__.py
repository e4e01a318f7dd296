"""Learning of many boards together: models of different widths, averaged by channel."""
