"""What every thread of the daemon stands on: services, signals, scheduling, state paths."""
