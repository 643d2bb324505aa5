"""What decides in the catalog: who sees and runs an offer, what a batch of changes comes to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, TypeAlias

from shared.errors import InvalidError
from shared.events import NetworkProfile, Offer, OfferPartner, PartnerProfile, Referral

Thing: TypeAlias = Offer | OfferPartner | NetworkProfile | PartnerProfile | Referral
Key: TypeAlias = tuple[int, ...]

KEY_FIELDS: Final[Mapping[type[Thing], tuple[str, ...]]] = {
    NetworkProfile: ("network_id",),
    PartnerProfile: ("network_id", "network_affiliate_id"),
    Offer: ("network_id", "network_offer_id"),
    OfferPartner: ("network_id", "network_offer_id", "network_affiliate_id"),
    Referral: ("network_id", "referral_history_id"),
}
"""What the record key of each kind is made of, in order."""


# --- who sees and runs an offer -------------------------------------------------------------------

_GRANTED_BY_STAFF: Final = {"visible": True, "hidden": False, "rejected": False}
_GRANTED_BY_APPLICATION: Final = {"approved": True, "rejected": False}
_SHOWN: Final = ("active", "paused")


def is_active(offer: Offer) -> bool:
    """Whether anybody may run it."""
    return offer.offer_status == "active"


def is_public(offer: Offer) -> bool:
    """Whether partners may run it of whom nothing else is said."""
    return offer.visibility == "public"


def is_private(offer: Offer) -> bool:
    """Whether only partners see it who were let in."""
    return offer.visibility == "private"


def grant(terms: OfferPartner) -> bool | None:
    """Whether a partner's own terms let them run the offer; None: the offer's rule holds.

    What staff set for the partner decides before what became of an application.
    """
    by_application = _GRANTED_BY_APPLICATION.get(terms.application_status)
    return _GRANTED_BY_STAFF.get(terms.visibility, by_application)


def may_run(offer: Offer, terms: OfferPartner | None) -> bool:
    """Whether the partner of `terms` may run `offer` now."""
    own = grant(terms) if terms is not None else None
    return is_active(offer) and (is_public(offer) if own is None else own)


def may_see(offer: Offer, terms: OfferPartner | None) -> bool:
    """Whether the partner of `terms` sees `offer`: to run it, to apply, or that it is paused.

    Lists leave out what is not active.
    """
    own = grant(terms) if terms is not None else None
    return offer.offer_status in _SHOWN and (not is_private(offer) if own is None else own)


def affiliate_status(offer: Offer, terms: OfferPartner | None) -> str:
    """`relationship.offer_affiliate_status`: how the partner stands with the offer."""
    own = grant(terms) if terms is not None else None
    if own is False:
        return "rejected"
    if is_public(offer):
        return "public"
    if own:
        return "approved"
    is_pending = terms is not None and terms.application_status == "pending"
    return "pending" if is_pending else "require_approval"


# --- what changes ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Removed:
    """A thing was taken off the log.

    Attributes:
        kind: what it was.
        key: which one.
        event_id: names this removal, also when it is sent again.
    """

    kind: type[Thing]
    key: Key
    event_id: str


Change: TypeAlias = Thing | Removed


def kind_of(change: Change) -> type[Thing]:
    """What kind of thing changed."""
    return change.kind if isinstance(change, Removed) else type(change)


_IDS: Final[Mapping[type[Thing], Callable[[Any], Key]]] = {
    NetworkProfile: lambda profile: (profile.network_id,),
    PartnerProfile: attrgetter(*KEY_FIELDS[PartnerProfile]),
    Offer: attrgetter(*KEY_FIELDS[Offer]),
    OfferPartner: attrgetter(*KEY_FIELDS[OfferPartner]),
    Referral: attrgetter(*KEY_FIELDS[Referral]),
}


def key_of(change: Change) -> Key:
    """Which thing changed."""
    if isinstance(change, Removed):
        return change.key
    return _IDS[type(change)](change)


def record_key(thing: Thing) -> bytes:
    """The record key of `thing`, such as `3:70:9`."""
    return b":".join(b"%d" % part for part in key_of(thing))


def parsed_key(kind: type[Thing], key: bytes | None) -> Key:
    """The ids in a record key such as `3:70:9`.

    Raises:
        InvalidError: it is not made of the ids of a `kind`.
    """
    parts = (key or b"").split(b":")
    expected = KEY_FIELDS[kind]
    if len(parts) != len(expected) or not all(map(_is_id, parts)):
        raise InvalidError(f"{kind.__name__}: key {key!r} is not {':'.join(expected)}")
    return tuple(map(int, parts))


def _is_id(part: bytes) -> bool:
    return part.isdigit() and len(part) < len(str(2**53)) and not part.startswith(b"0")


@dataclass(slots=True)
class Wave:
    """Changes that may be written in any order, since no thing is among them twice."""

    saved: dict[Key, tuple[Thing, bytes]] = field(default_factory=dict)
    removed: dict[Key, Removed] = field(default_factory=dict)


def waves(changes: Iterable[tuple[Change, bytes | None]]) -> list[Wave]:
    """Changes of one kind, with their JSON, as few waves that come to the same as one by one.

    A thing that is saved several times in a row is saved once, as the first of its highest version.
    A thing that is removed and saved again is in a wave of its own for each turn.
    """
    result: list[Wave] = []
    turns: dict[Key, int] = {}
    for change, document in changes:
        key = key_of(change)
        turn = turns.get(key, 0)
        if len(result) > turn and key in _opposite(result[turn], change):
            turn += 1
        turns[key] = turn
        if len(result) == turn:
            result.append(Wave())
        _join(result[turn], key, change, document)
    return result


def _opposite(wave: Wave, change: Change) -> Mapping[Key, object]:
    return wave.saved if isinstance(change, Removed) else wave.removed


def _join(wave: Wave, key: Key, change: Change, document: bytes | None) -> None:
    if isinstance(change, Removed):
        wave.removed[key] = change
        return
    held = wave.saved.get(key)
    if document is not None and (held is None or held[0].version < change.version):
        wave.saved[key] = (change, document)
