"""Energy meters: what a board, a domain or a workload has used, in joules, and how that is known."""
