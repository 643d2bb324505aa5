"""How every answer says up to which log time it is complete."""

from typing import Final

from shared.clock import rfc3339

HEADER: Final = "x-data-through"


def fresh(through: float) -> dict[str, str]:
    """The header for an answer that holds everything logged until `through` (seconds, UTC)."""
    return {HEADER: rfc3339(through)}
