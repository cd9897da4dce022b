"""A run, for people to read."""
