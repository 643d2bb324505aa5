"""Ways to run the platform. `local` runs all of it on one machine without containers."""
