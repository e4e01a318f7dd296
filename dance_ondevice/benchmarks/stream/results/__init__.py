"""What the runs of the streaming benchmark come to: the report, its targets, and its page."""
