"""Learning of many boards together: models of different widths, averaged channel by channel. Without torch."""
