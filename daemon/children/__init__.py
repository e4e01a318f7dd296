"""The parent's end of child processes: starting them, their jobs, events and logs."""
