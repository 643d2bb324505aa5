"""How often a test repeats itself: a few times in `make test`, in full in `make soak`."""

import os

SOAK = os.environ.get("PORTICO_SOAK") == "1"


def count(short: int, full: int) -> int:
    """`full` in a soak run, otherwise `short`."""
    return full if SOAK else short
