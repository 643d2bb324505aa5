"""How a key gives way to another, so that its partner is never without one. Pure.

The two of a rotation are the only keys of an integration that work side by side, until the overlap
ends; nothing lets the old one live longer.
"""

from dataclasses import dataclass, replace
from typing import Final

from services.keys import domain
from services.keys.domain import Cause, Change, Key, Made
from shared import events
from shared.errors import ConflictError
from shared.events import Event

OVERLAP_SECONDS_DEFAULT: Final = 7 * 86_400
OVERLAP_SECONDS_MAX: Final = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Turnover:
    """How staff have a key rotated.

    Attributes:
        overlap_seconds: how long the old key lives on; 0 ends it at once.
        has_expiry: whether `expires_at` was given; if not, the old key's rule holds.
        expires_at: when the new key ends; seconds, UTC, or None for never.
    """

    overlap_seconds: int = OVERLAP_SECONDS_DEFAULT
    has_expiry: bool = False
    expires_at: float | None = None
    reason: str = ""


def rotated(
    old: Key, made: Made, turnover: Turnover, cause: Cause
) -> tuple[Change[Key], Change[Key]]:
    """`old` gives way to a new key with its integration and allowlist, which comes second.

    Without another wish the new key lives as long as the old one was meant to, from now on.

    Raises:
        ConflictError: `old` has ended, or was rotated before.
        InvalidError: the moment at which the new key is to end has passed.
    """
    old.require_live(cause.at)
    if old.successor_key_id is not None:
        raise ConflictError(
            f"The key was rotated before: {old.successor_key_id} is its successor. Rotate that one."
        )
    new = _successor(old, made, turnover, cause)
    return _superseded(old, new, turnover.overlap_seconds, cause), domain.issued(new, cause)


def _successor(old: Key, made: Made, turnover: Turnover, cause: Cause) -> Key:
    not_before = domain.checked_start(old.not_before, cause.at)
    begins_at = max(cause.at, not_before)
    if turnover.has_expiry:
        expires_at = domain.checked_expiry(turnover.expires_at, begins_at)
    elif old.expires_at is None:
        expires_at = None
    else:
        lifetime = old.expires_at - max(old.created_at, old.not_before)
        expires_at = min(begins_at + lifetime, domain.MOMENT_MAX - 1)
    return replace(
        old,
        key_id=made.key_id,
        digest=made.secret.digest,
        masked=made.secret.masked,
        sealed=made.sealed,
        expires_at=expires_at,
        created_at=cause.at,
        created_by=cause.actor.subject,
        created_by_name=cause.actor.name,
        version=1,
        not_before=not_before,
        predecessor_key_id=old.key_id,
    )


def _superseded(old: Key, new: Key, overlap_seconds: int, cause: Cause) -> Change[Key]:
    overlap_ends_at = cause.at + overlap_seconds
    if old.expires_at is not None:
        overlap_ends_at = min(overlap_ends_at, old.expires_at)
    happened: list[Event] = [
        events.KeyRotated(
            **domain.told(old, cause), successor_key_id=new.key_id, overlap_ends_at=overlap_ends_at
        )
    ]
    key = replace(
        old,
        version=old.version + 1,
        successor_key_id=new.key_id,
        rotated_at=cause.at,
        expires_at=overlap_ends_at,
    )
    if overlap_seconds == 0:
        key = replace(key, status="revoked", ended_at=cause.at)
        happened.append(events.KeyRevoked(**domain.told(key, cause)))
    return Change(key, (*happened, key.state()))
