"""The schema of the audit service, forward only."""
