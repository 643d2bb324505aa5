"""The projection of `network.partners.v1` (steps 6 to 8): who may have a key, whose keys work.

A partner whose account becomes inactive or suspended, or who is removed, is held by that at the
doors in the transaction that notes it; once active again, this hold is lifted, and no other.
Records that come again or late change nothing.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from services.keys import domain
from services.keys.access.domain import with_hold
from services.keys.domain import Cause
from services.keys.eligibility import SUSPENDING
from services.keys.store import PartnerChange, Removed, Unit
from shared import events, topics
from shared.batches import Item
from shared.clock import Clock
from shared.errors import InvalidError
from shared.events import Event, PartnerProfile
from shared.kafka import Record
from shared.postgres import Connection

TOPIC: Final = topics.NETWORK_PARTNERS
_PARTS: Final = 2


def check_partner(record: Record[bytes, bytes]) -> PartnerChange:
    """The partner in a record, proved to be the one that its key names.

    Raises:
        InvalidError: the value is not of its schema, or the key is not the body's.
    """
    key = (record.key or b"").decode("latin-1")
    if record.value is None:
        return _removed(key)
    profile = events.decode(PartnerProfile, record.value)
    if events.partner_key(profile.network_id, profile.network_affiliate_id) != key:
        raise InvalidError(f"PartnerProfile: key {key!r} is not that of the body")
    return profile


def _removed(key: str) -> Removed:
    parts = key.split(":")
    if len(parts) != _PARTS or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidError(f"a tombstone under {key!r}, which names no partner")
    return Removed(int(parts[0]), int(parts[1]))


def partner_writer(
    clock: Clock,
) -> Callable[[Connection, Sequence[Item[PartnerChange]]], Awaitable[None]]:
    """The effect of a batch: partners as told, and suspensions as their status asks for."""

    async def write(connection: Connection, items: Sequence[Item[PartnerChange]]) -> None:
        unit = Unit(connection)
        found = [item.event for item in items]
        await unit.note_partners(found)
        told: list[Event] = []
        now = clock.time()
        for access, status in await unit.misjudged(found, SUSPENDING):
            cause = Cause(domain.SYSTEM, now, reason=f"account status: {status}")
            held = status == "removed" or status in SUSPENDING
            change = with_hold(access, "account_status", held=held, cause=cause)
            if change is not None:
                await unit.save(change.now)
                told += change.events
        if told:
            await unit.append(told, now)

    return write
