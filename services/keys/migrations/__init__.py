"""The schema of the key service, forward only."""
