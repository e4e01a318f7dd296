"""The foundation of the daemon's threads: services, signals, scheduling, state paths."""
