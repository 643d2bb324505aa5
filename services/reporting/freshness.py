"""How every answer says up to which log time it is complete."""

from typing import Any, Final

from shared.clock import rfc3339

HEADER: Final = "x-data-through"
FRESH: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "X-Data-Through": {
                "description": "The answer holds everything that was logged until this moment.",
                "schema": {"type": "string", "format": "date-time"},
            }
        }
    }
}
"""How the reference describes it, for routes to declare."""


def fresh(through: float) -> dict[str, str]:
    """The header for an answer that holds everything logged until `through` (seconds, UTC)."""
    return {HEADER: rfc3339(through)}
