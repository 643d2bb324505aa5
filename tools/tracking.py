"""The three types of tracking events, by the names under which partners ask for them."""

from collections.abc import Mapping
from typing import Final, Literal

from shared.events import Click, Conversion, Impression, Tracked

Kind = Literal["clicks", "impressions", "conversions"]

EVENTS: Final[Mapping[Kind, type[Tracked]]] = {
    "clicks": Click,
    "impressions": Impression,
    "conversions": Conversion,
}
_KINDS: Final = {event: kind for kind, event in EVENTS.items()}


def kind_of(event: Tracked) -> Kind:
    """The name of the event's type."""
    return _KINDS[type(event)]
