"""The configuration: file, sections, rules for values, and reload."""
