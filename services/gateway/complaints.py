"""What goes wrong again and again is logged once a second, with how often it did. Pure."""

from collections import Counter
from collections.abc import Hashable
from typing import Final

PAUSE_SECONDS: Final = 1.0


class Complaints:
    """Decides which of many equal complaints is heard; there are as many kinds as names."""

    def __init__(self) -> None:
        self._heard_at: dict[Hashable, float] = {}
        self._unheard: Counter[Hashable] = Counter()

    def due(self, name: Hashable, now: float) -> int:
        """For how many complaints the one made now stands; 0 if it is too early for another.

        Args:
            name: what it is about.
            now: monotonic seconds.
        """
        self._unheard[name] += 1
        if now - self._heard_at.get(name, -PAUSE_SECONDS) < PAUSE_SECONDS:
            return 0
        self._heard_at[name] = now
        return self._unheard.pop(name)
