"""Programs that run in child processes with torch; no other room imports them."""
