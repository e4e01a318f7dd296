"""The sample store: files, SQLite index, quota, and recovery."""
