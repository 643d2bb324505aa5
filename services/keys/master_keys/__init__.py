"""The master keys: where they come from, who holds them, and how one replaces another."""
