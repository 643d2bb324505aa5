"""What the doors must know of the things that this service owns, and how a wrong word is set right.

Pure. The table decides, with one exception: what ends or holds something is believed wherever it
stands, since the table may have been restored to a time before.
"""

from dataclasses import replace

import msgspec

from services.keys import domain
from services.keys.access.domain import Access, with_hold
from services.keys.domain import Cause, Change, Key
from shared.events import Event, KeyState, NetworkState, PartnerAccess

Owned = Key | Access | NetworkState
"""What this service alone changes; each is one record of a topic that the doors read."""
State = KeyState | PartnerAccess | NetworkState
"""The value of that record."""


def state_of(owned: Owned) -> State:
    """The record by which the doors know a thing."""
    return owned if isinstance(owned, NetworkState) else owned.state()


def is_over(owned: Owned, before: float) -> bool:
    """Whether it is a key that ended `before` a moment: the doors need not know it any more."""
    return isinstance(owned, Key) and owned.ended_at is not None and owned.ended_at < before


def mended(owned: Owned, seen: State | None, cause: Cause) -> Change[Owned]:
    """`owned` anew, in a version that replaces the one that the doors have.

    A key that they know as ended stays ended, whatever our table says. Where they hold a higher
    version than our table, that is a change which the table has lost: then a key ends no later, and
    a partner stays suspended (by staff, who may lift it), as they know it.
    """
    version = max(owned.version, seen.version if seen else 0) + 1
    told: tuple[Event, ...] = ()
    now: Owned
    match owned:
        case Key():
            key, told = _believed_key(owned, seen, cause)
            now = replace(key, version=version)
        case Access():
            access, told = _believed_access(owned, seen, cause)
            now = replace(access, version=version)
        case NetworkState():
            now = msgspec.structs.replace(owned, version=version)
    return Change(now, (*told, state_of(now)))


def _believed_key(key: Key, seen: State | None, cause: Cause) -> tuple[Key, tuple[Event, ...]]:
    """`key` as far ended as `seen` knows it, and the event that tells so."""
    if not isinstance(seen, KeyState):
        return key, ()
    change = None
    cause = replace(cause, reason="the log knew it as ended by then")
    if seen.status != "active":
        cause = replace(cause, reason=f"the log knew it as {seen.status}")
    if seen.status == "revoked":
        change = domain.revoked(key, cause)
    elif seen.status == "expired" and key.status == "active":
        change = domain.expired(key, cause)
    elif seen.version > key.version and key.status == "active":
        change = domain.ending_by(key, seen.expires_at, cause)
    return (change.now, change.events[:1]) if change else (key, ())


def _believed_access(
    access: Access, seen: State | None, cause: Cause
) -> tuple[Access, tuple[Event, ...]]:
    """`access` suspended if `seen`, being ahead, has it so; and the event that tells it."""
    if not isinstance(seen, PartnerAccess) or seen.version <= access.version:
        return access, ()
    if not seen.suspended or access.suspended:
        return access, ()
    cause = replace(cause, reason="the log knew it as suspended")
    change = with_hold(access, "staff", held=True, cause=cause)
    return (change.now, change.events[:1]) if change else (access, ())
