"""The console: pages in a browser that show what the daemon does and correct what it sees."""
