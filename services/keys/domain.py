"""Who may have a key, what a change makes of it, and which events tell so. Pure.

A change is decided as a `Change`: the thing as it is now, and the events that tell it, the state
record for the doors among them. A decision that would change nothing is None.
"""

import re
import unicodedata
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from shared import events
from shared.errors import ConflictError, InvalidError
from shared.events import Actor, Event, KeyState, NetworkState, PartnerAccess

INTEGRATION_LENGTH_MAX: Final = 100
KEY_ID: Final = re.compile(r"key_[0-9a-f]{20}")
SUSPENDING: Final = frozenset({"inactive", "suspended"})
"""Account statuses with which no key of a partner works."""
SYSTEM: Final = Actor(subject="portico/keys", name="Key service", kind="system")

Status = Literal["active", "revoked", "expired"]
Obstacle = Literal["in_onboarding", "no_technical_capacity", "fraud_flag", "quality_flag"]


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
class Key:
    """A key as its owner knows it.

    Attributes:
        digest: SHA-256 of the secret, lower-case hex.
        masked: how people see it.
        sealed: the secret, which only `vault` opens.
        expires_at: from when on it does not work any more; None for never.
        version: grows with each change.
        created_by: `sub` of who issued it.
        ended_at: when it was revoked or found to be expired; None while active.
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

    def shown_status(self, now: float) -> Status:
        """Its status for people: a key that has lapsed is expired, noted or not."""
        has_lapsed = self.expires_at is not None and now >= self.expires_at
        return "expired" if self.status == "active" and has_lapsed else self.status

    def require_active(self, now: float) -> None:
        """Let pass an active key.

        Raises:
            ConflictError: it is revoked or expired.
        """
        status = self.shown_status(now)
        if status != "active":
            raise ConflictError(f"The key is {status}; only an active key allows this.")

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
            expires_at=self.expires_at,
        )


Owned = Key | PartnerAccess | NetworkState
"""What this service alone changes; each is one record of a topic that the doors read."""
State = KeyState | PartnerAccess | NetworkState
"""The value of that record."""
O_co = TypeVar("O_co", bound=Owned, covariant=True)


@dataclass(frozen=True, slots=True)
class Change(Generic[O_co]):
    """A thing as it is now, and what tells of it."""

    now: O_co
    events: tuple[Event, ...]


def state_of(owned: Owned) -> State:
    """The record by which the doors know a thing."""
    return owned.state() if isinstance(owned, Key) else owned


def is_over(owned: Owned, before: float) -> bool:
    """Whether it is a key that ended `before` a moment: the doors need not know it any more."""
    return isinstance(owned, Key) and owned.ended_at is not None and owned.ended_at < before


# --- issue ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partner:
    """A partner as far as it decides whether a key may be issued."""

    network_id: int
    network_affiliate_id: int
    name: str
    in_onboarding: bool = False
    has_technical_capacity: bool = True
    has_fraud_flag: bool = False
    has_quality_flag: bool = False

    def obstacles(self) -> tuple[Obstacle, ...]:
        """Everything that stands against a key, always in the same order."""
        found: dict[Obstacle, bool] = {
            "in_onboarding": self.in_onboarding,
            "no_technical_capacity": not self.has_technical_capacity,
            "fraud_flag": self.has_fraud_flag,
            "quality_flag": self.has_quality_flag,
        }
        return tuple(obstacle for obstacle, stands in found.items() if stands)


_OBSTACLE_TEXTS: Final[dict[Obstacle, str]] = {
    "in_onboarding": "it is in onboarding",
    "no_technical_capacity": "it lacks the technical capacity",
    "fraud_flag": "it has an open fraud flag",
    "quality_flag": "it has an open quality flag",
}


class IneligibleError(ConflictError):
    """The partner may not have a key; `obstacles` are all reasons."""

    def __init__(self, obstacles: tuple[Obstacle, ...]) -> None:
        told = ", ".join(_OBSTACLE_TEXTS[obstacle] for obstacle in obstacles)
        super().__init__(
            f"The partner may not have a key: {told}. "
            "A Super User may override this with a written reason (override_reason)."
        )
        self.obstacles = obstacles


def integration_name(text: str) -> str:
    """`text` as names are kept: composed, without white space around or doubled within.

    Raises:
        InvalidError: nothing is left, it is too long, or it has characters that do not print.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not name or len(name) > INTEGRATION_LENGTH_MAX or not name.isprintable():
        raise InvalidError(
            f"integration: needs 1 to {INTEGRATION_LENGTH_MAX} printable characters."
        )
    return name


def issued(key: Key, cause: Cause, override_reasons: tuple[Obstacle, ...] = ()) -> Change[Key]:
    """`key` came into being, against `override_reasons`."""
    event = events.KeyIssued(
        **_told(key, cause),
        allowlist=key.allowlist,
        expires_at=key.expires_at,
        override_reasons=override_reasons,
    )
    return Change(key, (event, key.state()))


def checked_expiry(expires_at: float | None, now: float) -> float | None:
    """`expires_at` of a key to be issued.

    Raises:
        InvalidError: it has passed.
    """
    if expires_at is not None and expires_at <= now:
        raise InvalidError("expires_at: this moment has passed.")
    return expires_at


# --- the life of a key ----------------------------------------------------------------------------


def reshared(key: Key, cause: Cause) -> events.KeyReshared:
    """The secret of an active `key` is shown.

    Raises:
        ConflictError: it is not active.
    """
    key.require_active(cause.at)
    return events.KeyReshared(**_told(key, cause))


def revoked(key: Key, cause: Cause) -> Change[Key] | None:
    """`key` ends for good; None if it was revoked before."""
    if key.status == "revoked":
        return None
    return _changed(
        replace(key, status="revoked", ended_at=cause.at), events.KeyRevoked(**_told(key, cause))
    )


def expired(key: Key, cause: Cause) -> Change[Key]:
    """It is noted that the time of an active `key` has ended."""
    return _changed(
        replace(key, status="expired", ended_at=cause.at), events.KeyExpired(**_told(key, cause))
    )


def with_allowlist(key: Key, allowlist: tuple[str, ...], cause: Cause) -> Change[Key] | None:
    """An active `key` may be used from `allowlist`, as `allowlist.canonical` gives it.

    Raises:
        ConflictError: it is not active.
    """
    key.require_active(cause.at)
    if allowlist == key.allowlist:
        return None
    event = events.AllowlistChanged(**_told(key, cause), before=key.allowlist, after=allowlist)
    return _changed(replace(key, allowlist=allowlist), event)


def _changed(key: Key, event: Event) -> Change[Key]:
    key = replace(key, version=key.version + 1)
    return Change(key, (event, key.state()))


def _told(key: Key, cause: Cause) -> dict[str, Any]:
    return cause.told(key.network_id, key.network_affiliate_id) | {
        "key_id": key.key_id,
        "masked": key.masked,
        "integration": key.integration,
    }


# --- partners and networks ------------------------------------------------------------------------


def with_firehose(
    access: PartnerAccess, *, enabled: bool, cause: Cause
) -> Change[PartnerAccess] | None:
    """A partner may open streams from now on, or not any more."""
    if access.firehose_enabled == enabled:
        return None
    kind = events.FirehoseEnabled if enabled else events.FirehoseDisabled
    return _access_changed(access, kind, cause, firehose_enabled=enabled)


def with_suspension(
    access: PartnerAccess, *, suspended: bool, cause: Cause
) -> Change[PartnerAccess] | None:
    """The keys of a partner work from now on, or not any more."""
    if access.suspended == suspended:
        return None
    kind = events.PartnerSuspended if suspended else events.PartnerResumed
    return _access_changed(access, kind, cause, suspended=suspended)


def _access_changed(
    access: PartnerAccess, kind: type[Event], cause: Cause, **members: bool
) -> Change[PartnerAccess]:
    event = kind(**cause.told(access.network_id, access.network_affiliate_id))
    access = msgspec.structs.replace(access, version=access.version + 1, **members)
    return Change(access, (event, access))


def with_budgets(
    before: NetworkState, wanted: NetworkState, cause: Cause
) -> Change[NetworkState] | None:
    """A network has the budgets of `wanted`; each part that differs is an event of its own."""
    then, after = _budget_texts(before), _budget_texts(wanted)
    differing = [
        events.BudgetChanged(
            **cause.told(before.network_id, 0), realm=part, before=then[part], after=after[part]
        )
        for part in then
        if then[part] != after[part]
    ]
    if not differing:
        return None
    now = msgspec.structs.replace(wanted, version=before.version + 1)
    return Change(now, (*differing, now))


def _budget_texts(state: NetworkState) -> dict[str, str]:
    return {
        "affiliate": f"{state.affiliate.rate:.15g}/s, burst {state.affiliate.burst}",
        "granular": f"{state.granular_per_hour}/h",
        "shadow": "report only" if state.shadow else "enforce",
    }


def denied(
    network_id: int, network_affiliate_id: int, action: str, permission: str, cause: Cause
) -> events.AccessDenied:
    """Somebody lacked `permission` for `action`."""
    told = cause.told(network_id, network_affiliate_id)
    return events.AccessDenied(**told, action=action, permission=permission)


# --- reconciliation -------------------------------------------------------------------------------


def mended(owned: Owned, seen: State | None, cause: Cause) -> Change[Owned]:
    """`owned` anew, in a version that replaces the one that the doors have.

    A key that they know as revoked stays revoked, whatever our table says: it may have been
    restored to a time before.
    """
    version = max(owned.version, seen.version if seen else 0) + 1
    if not isinstance(owned, Key):
        again = msgspec.structs.replace(owned, version=version)
        return Change(again, (again,))
    known_as_revoked = isinstance(seen, KeyState) and seen.status == "revoked"
    end = revoked(owned, cause) if known_as_revoked else None
    key = replace(end.now if end else owned, version=version)
    told = end.events[:1] if end else ()
    return Change(key, (*told, key.state()))
