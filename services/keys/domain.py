"""What a key is, what a change makes of it, and which events tell so. Pure.

A change is decided as a `Change`: the thing as it is now, and the events that tell it, the state
record for the doors among them. A decision that would change nothing is None.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Literal, TypeVar

from services.keys import allowlist
from services.keys.eligibility import Obstacle, Partner
from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import Actor, Event, KeyState
from shared.partner_key import PartnerKey, masked_in

INTEGRATION_LENGTH_MAX: Final = 100
KEY_ID: Final = re.compile(r"key_[0-9a-f]{20}")
MOMENT_MAX: Final = 253_370_764_800.0
"""The start of the year 9999, seconds, UTC: what ends later might as well never end."""
SYSTEM: Final = Actor(subject="portico/keys", name="Key service", kind="system")

Status = Literal["active", "revoked", "expired"]
ShownStatus = Literal["active", "scheduled", "revoked", "expired"]
LIVE: Final = frozenset({"active", "scheduled"})
"""Shown statuses of a key that works, or will."""

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Cause:
    """Who does something, when (seconds, UTC), why, and by which request; every event tells it."""

    actor: Actor
    at: float
    reason: str = ""
    request_id: str = ""
    client_ip: str = ""

    def told(self, network_id: int, network_affiliate_id: int) -> dict[str, Any]:
        """The members that all events of `keys.events.v1` have in common."""
        return {
            "network_id": network_id,
            "network_affiliate_id": network_affiliate_id,
            "occurred_at": self.at,
            "actor": self.actor,
            "reason": self.reason,
            "request_id": self.request_id,
            "client_ip": self.client_ip,
        }


@dataclass(frozen=True, slots=True)
class Change(Generic[T_co]):
    """A thing as it is now, and what tells of it."""

    now: T_co
    events: tuple[Event, ...]


def shown_status(
    status: Status, not_before: float, expires_at: float | None, now: float
) -> ShownStatus:
    """A key's status for people: by its times, whether a change of them was noted or not."""
    if status != "active":
        return status
    if expires_at is not None and now >= expires_at:
        return "expired"
    return "scheduled" if now < not_before else "active"


@dataclass(frozen=True, slots=True)
class Key:
    """A key as its owner knows it. Times are seconds, UTC.

    Attributes:
        digest: SHA-256 of the secret, lower-case hex.
        masked: how people see it.
        sealed: the secret, which only `vault` opens.
        expires_at: from when on it does not work any more; None for never.
        version: grows with each change.
        created_by: `sub` of who issued it.
        ended_at: when it was revoked or found to be expired; None while active.
        not_before: from when on it works; 0 for at once.
        created_by_name: their name at that time.
        predecessor_key_id: the key that it follows in a rotation.
        successor_key_id: the key that follows it.
        rotated_at: when that one was issued.
    """

    key_id: str
    network_id: int
    network_affiliate_id: int
    integration: str
    digest: str
    masked: str
    sealed: bytes = field(repr=False)
    allowlist: tuple[str, ...]
    expires_at: float | None
    created_at: float
    created_by: str
    status: Status = "active"
    version: int = 1
    ended_at: float | None = None
    not_before: float = 0.0
    created_by_name: str = ""
    predecessor_key_id: str | None = None
    successor_key_id: str | None = None
    rotated_at: float | None = None

    def shown_status(self, now: float) -> ShownStatus:
        """Its status for people at a moment."""
        return shown_status(self.status, self.not_before, self.expires_at, now)

    def require_live(self, now: float) -> None:
        """Let pass a key that works, or will.

        Raises:
            ConflictError: it is revoked or expired.
        """
        status = self.shown_status(now)
        if status not in LIVE:
            raise ConflictError(f"The key is {status}; only an active key allows this.")

    @property
    def overlap_ends_at(self) -> float | None:
        """When it ends beside its successor; None if it was not rotated."""
        return None if self.successor_key_id is None else self.expires_at

    def state(self) -> KeyState:
        """What the doors know of it."""
        return KeyState(
            key_id=self.key_id,
            version=self.version,
            digest=self.digest,
            network_id=self.network_id,
            network_affiliate_id=self.network_affiliate_id,
            integration=self.integration,
            status=self.status,
            allowlist=self.allowlist,
            not_before=self.not_before,
            expires_at=self.expires_at,
        )


# --- issue ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """The key that staff ask for; times are seconds, UTC, None for at once and for never."""

    integration: str
    allowlist: Sequence[str] = ()
    expires_at: float | None = None
    not_before: float | None = None
    reason: str = ""
    override_reason: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A secret that was just made, and what is kept of it.

    Attributes:
        key_id: of the key that it is for.
        secret: for the one answer that shows it.
        sealed: the same for the database.
    """

    key_id: str
    secret: PartnerKey
    sealed: bytes = field(repr=False)


def new_key(partner: Partner, wish: Wish, made: Made, cause: Cause) -> Key:
    """The key that `wish` asks for.

    Raises:
        InvalidError: no integration is named, an address is wrong, or a moment is.
    """
    not_before = checked_start(wish.not_before, cause.at)
    return Key(
        key_id=made.key_id,
        network_id=partner.network_id,
        network_affiliate_id=partner.network_affiliate_id,
        integration=integration_name(wish.integration),
        digest=made.secret.digest,
        masked=made.secret.masked,
        sealed=made.sealed,
        allowlist=allowlist.canonical(wish.allowlist),
        expires_at=checked_expiry(wish.expires_at, max(cause.at, not_before)),
        created_at=cause.at,
        created_by=cause.actor.subject,
        created_by_name=cause.actor.name,
        not_before=not_before,
    )


def integration_name(text: str) -> str:
    """`text` as names are kept: in plain letters, white space neither around nor doubled within.

    Full width and other forms of the same letters become the usual one.

    Raises:
        InvalidError: nothing is left, it is too long, it has characters that do not print, or
            somebody pasted a key.
    """
    name = " ".join(unicodedata.normalize("NFKC", text).split())
    if not name or len(name) > INTEGRATION_LENGTH_MAX or not name.isprintable():
        raise InvalidError(
            f"integration: needs 1 to {INTEGRATION_LENGTH_MAX} printable characters."
        )
    if masked_in(name) != name:
        raise InvalidError("integration: holds a key; name what uses the key instead.")
    return name


def checked_expiry(expires_at: float | None, begins_at: float) -> float | None:
    """`expires_at` of a key that works from `begins_at` on, now or later.

    Raises:
        InvalidError: the key would never work, or the moment cannot be told.
    """
    if expires_at is None:
        return None
    # Written so that what is no number is refused too.
    if not expires_at < MOMENT_MAX:
        raise InvalidError("expires_at: needs a moment before the year 9999; null means never.")
    if expires_at <= begins_at:
        raise InvalidError(
            "expires_at: this moment has passed, or is not after the key's start; name a later "
            "one, or revoke the key to end it now."
        )
    return expires_at


def checked_start(not_before: float | None, now: float) -> float:
    """`not_before` as keys have it: 0 if it has come.

    Raises:
        InvalidError: the moment cannot be told.
    """
    if not_before is None or not_before <= now:
        return 0.0
    if not not_before < MOMENT_MAX:
        raise InvalidError("not_before: needs a moment before the year 9999.")
    return not_before


def issued(key: Key, cause: Cause, override_reasons: tuple[Obstacle, ...] = ()) -> Change[Key]:
    """`key` came into being, against `override_reasons`."""
    event = events.KeyIssued(
        **told(key, cause),
        allowlist=key.allowlist,
        not_before=key.not_before,
        expires_at=key.expires_at,
        override_reasons=override_reasons,
        predecessor_key_id=key.predecessor_key_id or "",
    )
    return Change(key, (event, key.state()))


# --- its life -------------------------------------------------------------------------------------


def reshared(
    key: Key, cause: Cause, channel: Literal["reveal", "link", "partner", "retry"] = "reveal"
) -> events.KeyReshared:
    """The secret of a live `key` is shown, by `channel`.

    Raises:
        ConflictError: it has ended.
    """
    key.require_live(cause.at)
    return events.KeyReshared(**told(key, cause), channel=channel)


def revoked(key: Key, cause: Cause) -> Change[Key] | None:
    """`key` ends for good; None if it was revoked before."""
    if key.status == "revoked":
        return None
    return _changed(
        replace(key, status="revoked", ended_at=cause.at), events.KeyRevoked(**told(key, cause))
    )


def expired(key: Key, cause: Cause) -> Change[Key]:
    """It is noted that the time of an active `key` has ended."""
    return _changed(
        replace(key, status="expired", ended_at=cause.at), events.KeyExpired(**told(key, cause))
    )


def with_allowlist(key: Key, wanted: tuple[str, ...], cause: Cause) -> Change[Key] | None:
    """A live `key` may be used from `wanted`, as `allowlist.canonical` gives it.

    Raises:
        ConflictError: it has ended.
    """
    key.require_live(cause.at)
    if wanted == key.allowlist:
        return None
    event = events.AllowlistChanged(**told(key, cause), before=key.allowlist, after=wanted)
    return _changed(replace(key, allowlist=wanted), event)


def with_expiry(key: Key, expires_at: float | None, cause: Cause) -> Change[Key] | None:
    """A live `key` ends at another moment, or never.

    Raises:
        ConflictError: it has ended, or was rotated and would live longer than its overlap.
        InvalidError: the moment has passed.
    """
    key.require_live(cause.at)
    wanted = checked_expiry(expires_at, max(cause.at, key.not_before))
    if wanted == key.expires_at:
        return None
    if key.successor_key_id is not None and not _is_earlier(wanted, key.expires_at):
        raise ConflictError(
            f"The key was rotated: {key.successor_key_id} is its successor, and its own end may "
            "only move earlier."
        )
    return _ending(key, wanted, cause)


def ending_by(key: Key, expires_at: float | None, cause: Cause) -> Change[Key] | None:
    """An active `key` ends no later than `expires_at`, whenever that is."""
    return _ending(key, expires_at, cause) if _is_earlier(expires_at, key.expires_at) else None


def _is_earlier(moment: float | None, than: float | None) -> bool:
    return moment is not None and (than is None or moment < than)


def _ending(key: Key, expires_at: float | None, cause: Cause) -> Change[Key]:
    event = events.ExpiryChanged(**told(key, cause), before=key.expires_at, after=expires_at)
    return _changed(replace(key, expires_at=expires_at), event)


def _changed(key: Key, event: Event) -> Change[Key]:
    key = replace(key, version=key.version + 1)
    return Change(key, (event, key.state()))


def told(key: Key, cause: Cause) -> dict[str, Any]:
    """The members that all events about one key have in common."""
    return cause.told(key.network_id, key.network_affiliate_id) | {
        "key_id": key.key_id,
        "masked": key.masked,
        "integration": key.integration,
    }


def denied(
    network_id: int, network_affiliate_id: int, action: str, permission: str, cause: Cause
) -> events.AccessDenied:
    """Somebody lacked `permission` for `action`."""
    members = cause.told(network_id, network_affiliate_id)
    return events.AccessDenied(**members, action=action, permission=permission)
