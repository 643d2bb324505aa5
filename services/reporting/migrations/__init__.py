"""The Postgres schema of reporting, as forward-only steps."""
