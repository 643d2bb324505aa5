"""The life of a partner's keys, written a second time: plain, without database, log or our code.

`Model` says for each command whether it is refused, which events tell it, and what is so after it.
`Fold` says what the events alone tell. Both are compared with the tables, and the model's decision
at the door with that of the doors. Nothing here is imported from the service.
"""

import copy
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared import errors, events

FLAGS = ("in_onboarding", "no_technical_capacity", "fraud_flag", "quality_flag")
NO_WORK = ("inactive", "suspended")
"""Account statuses with which no key works."""
NEW = "new"
"""The name of what a command makes until it is known what the service has called it."""
DAY = 86_400.0
LINKS_MAX = 10


class RefusedError(Exception):
    """The command changes nothing; `kind` is the error, `told` the kinds of the events of it."""

    def __init__(self, kind: type[errors.PorticoError], *told: str) -> None:
        super().__init__(kind.__name__)
        self.kind = kind
        self.told = told


@dataclass
class ModelKey:
    """A key; `status` is what was noted, time aside."""

    partner: int
    integration: str
    secret: str = ""
    allowlist: tuple[str, ...] = ()
    not_before: float = 0.0
    expires_at: float | None = None
    created_at: float = 0.0
    predecessor: str | None = None
    successor: str | None = None
    status: str = "active"
    ended_at: float | None = None
    is_forgotten: bool = False

    def has_lapsed(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def is_live(self, now: float) -> bool:
        return self.status == "active" and not self.has_lapsed(now)

    def end(self, status: str, now: float) -> None:
        self.status, self.ended_at, self.is_forgotten = status, now, False


@dataclass
class ModelPartner:
    """A partner as the network's platform and its staff have told."""

    version: int = 0
    account_status: str = "active"
    flags: frozenset[str] = frozenset()
    is_known: bool = False
    firehose: bool = False
    holds: set[str] = field(default_factory=set)

    @property
    def obstacles(self) -> tuple[str, ...]:
        """What stands against a key."""
        status = ("account_inactive",) if self.account_status in NO_WORK else ()
        return (*(flag for flag in FLAGS if flag in self.flags), *status)


@dataclass
class ModelShare:
    """A single-use link without a passphrase."""

    key_id: str
    expires_at: float
    token: Any = None
    status: str = "open"
    told_at: float = 0.0


@dataclass
class Model:
    """One network. Each command returns the kinds of the events that tell it."""

    now: float
    keys: dict[str, ModelKey] = field(default_factory=dict)
    partners: dict[int, ModelPartner] = field(default_factory=dict)
    shares: dict[str, ModelShare] = field(default_factory=dict)
    answers: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """By Idempotency-Key: the request, the key that it made, and when."""

    def copied(self) -> "Model":
        """As it is now, whatever becomes of this one."""
        return copy.deepcopy(self)

    # --- what the network's platform tells ------------------------------------------------------

    def account(self, partner: int, version: int, status: str, flags: Iterable[str]) -> list[str]:
        known = self.partners.setdefault(partner, ModelPartner())
        if version > known.version:
            known.version, known.account_status, known.is_known = version, status, True
            known.flags = frozenset(flags)
        return self._judged(known)

    def account_removed(self, partner: int) -> list[str]:
        self.partners[partner].is_known = False
        return self._judged(self.partners[partner])

    def _judged(self, partner: ModelPartner) -> list[str]:
        is_held = not partner.is_known or partner.account_status in NO_WORK
        return self._held(partner, "account_status", is_held=is_held)

    def _held(self, partner: ModelPartner, hold: str, *, is_held: bool) -> list[str]:
        if (hold in partner.holds) == is_held:
            return []
        (partner.holds.add if is_held else partner.holds.discard)(hold)
        return ["PartnerSuspended" if is_held else "PartnerResumed"]

    # --- keys come into being -------------------------------------------------------------------

    def issue(
        self, wanted: ModelKey, *, override: bool, super_user: bool, once: str, request: str
    ) -> list[str]:
        if override and not super_user and self._partner(wanted.partner).obstacles:
            raise RefusedError(errors.ForbiddenError, "AccessDenied")
        again = self._again(once, request)
        if again is not None:
            return again
        if self._partner(wanted.partner).obstacles and not override:
            raise RefusedError(errors.ConflictError)
        wanted = copy.deepcopy(wanted)
        wanted.not_before = wanted.not_before if wanted.not_before > self.now else 0.0
        self._require_after(wanted.expires_at, wanted.not_before)
        told = self._cleared(wanted)
        wanted.created_at = self.now
        self.keys[NEW] = wanted
        return [*told, "KeyIssued"]

    def _cleared(self, wanted: ModelKey) -> list[str]:
        """Note as expired what stood in the way of `wanted`; what is live still does."""
        told = []
        for key in self.keys.values():
            is_namesake = (
                key.partner == wanted.partner
                and key.integration.lower() == wanted.integration.lower()
                and key.status == "active"
            )
            if is_namesake and not key.has_lapsed(self.now):
                raise RefusedError(errors.ConflictError)
            if is_namesake and key.successor is None:
                key.end("expired", self.now)
                told.append("KeyExpired")
        return told

    def rotate(
        self, key_id: str, overlap: int, expires_at: float | str | None, once: str, request: str
    ) -> list[str]:
        """`expires_at` is text where the rule of the old key is to hold."""
        again = self._again(once, request)
        if again is not None:
            return again
        old = self._live(key_id)
        if old.successor or any(key_id == key.predecessor for key in self.keys.values()):
            raise RefusedError(errors.ConflictError)
        new = copy.deepcopy(old)
        new.not_before = old.not_before if old.not_before > self.now else 0.0
        if isinstance(expires_at, str):
            lived_from, begin = max(old.created_at, old.not_before), max(self.now, new.not_before)
            ends = old.expires_at
            new.expires_at = None if ends is None else begin + (ends - lived_from)
        else:
            self._require_after(expires_at, new.not_before)
            new.expires_at = expires_at
        new.created_at, new.predecessor, new.secret = self.now, key_id, ""
        old.successor = NEW
        old.expires_at = min(self.now + overlap, old.expires_at or float("inf"))
        self.keys[NEW] = new
        if overlap:
            return ["KeyRotated", "KeyIssued"]
        old.end("revoked", self.now)
        return ["KeyRotated", "KeyRevoked", "KeyIssued"]

    def _again(self, name: str, request: str) -> list[str] | None:
        """What a request sent again tells; None if it is carried out."""
        if not name:
            return None
        before, key_id, at = self.answers.get(name, ("", "", -DAY))
        if at <= self.now - DAY:
            self.answers[name] = (request, NEW, self.now)
            return None
        if before != request:
            raise RefusedError(errors.ConflictError)
        self._live(key_id)
        return ["KeyReshared"]

    def named(self, key_id: str) -> None:
        """The key that was made last is called so."""
        self.keys[key_id] = self.keys.pop(NEW)
        for key in self.keys.values():
            if key.successor == NEW:
                key.successor = key_id
        for name, (request, made, at) in self.answers.items():
            if made == NEW:
                self.answers[name] = (request, key_id, at)

    # --- keys change, and are shown -------------------------------------------------------------

    def reveal(self, key_id: str) -> list[str]:
        self._live(key_id)
        return ["KeyReshared"]

    def own(self, partner: int) -> list[str]:
        """The partner looks at its keys: each secret that is shown is told."""
        mine = [key for key in self.keys.values() if key.partner == partner]
        if not mine:
            raise RefusedError(errors.NotFoundError)
        if self.partners[partner].holds:
            return []
        return ["KeyReshared" for key in mine if key.is_live(self.now)]

    def revoke(self, key_id: str) -> list[str]:
        key = self._key(key_id)
        if key.status == "revoked":
            return []
        key.end("revoked", self.now)
        return ["KeyRevoked"]

    def set_allowlist(self, key_id: str, allowlist: tuple[str, ...]) -> list[str]:
        key = self._live(key_id)
        if key.allowlist == allowlist:
            return []
        key.allowlist = allowlist
        return ["AllowlistChanged"]

    def set_expiry(self, key_id: str, expires_at: float | None) -> list[str]:
        key = self._live(key_id)
        self._require_after(expires_at, key.not_before)
        if expires_at == key.expires_at:
            return []
        if key.successor and (expires_at is None or expires_at > (key.expires_at or 0.0)):
            raise RefusedError(errors.ConflictError)
        key.expires_at = expires_at
        return ["ExpiryChanged"]

    # --- partners -------------------------------------------------------------------------------

    def set_firehose(self, partner_id: int, *, enabled: bool) -> list[str]:
        partner = self._partner(partner_id)
        if partner.firehose == enabled:
            return []
        partner.firehose = enabled
        return ["FirehoseEnabled" if enabled else "FirehoseDisabled"]

    def suspend(self, partner_id: int, *, suspended: bool) -> list[str]:
        return self._held(self._partner(partner_id), "staff", is_held=suspended)

    # --- links ----------------------------------------------------------------------------------

    def share(self, key_id: str, seconds: int) -> list[str]:
        self._live(key_id)
        count = sum(
            share.key_id == key_id and share.status == "open" and share.expires_at > self.now
            for share in self.shares.values()
        )
        if count >= LINKS_MAX:
            raise RefusedError(errors.ConflictError)
        self.shares[NEW] = ModelShare(key_id, self.now + seconds)
        return ["KeyReshared"]

    def link_state(self, share_id: str) -> str:
        """What a link stands at."""
        share = self.shares[share_id]
        key = self.keys[share.key_id]
        if share.status != "open":
            return share.status
        if self.now >= share.expires_at:
            return "expired"
        if not key.is_live(self.now):
            return "ended"
        return "suspended" if self.partners[key.partner].holds else "open"

    def open_link(self, share_id: str) -> list[str]:
        share, state = self.shares[share_id], self.link_state(share_id)
        if state == "open":
            share.status = "used"
            return ["ShareOpened"]
        if self.now < share.told_at + 60:
            return []
        share.told_at = self.now
        return ["ShareOpened"]

    def withdraw(self, share_id: str) -> list[str]:
        state = self.link_state(share_id)
        if state in ("used", "expired"):
            raise RefusedError(errors.ConflictError)
        if state == "withdrawn":
            return []
        self.shares[share_id].status = "withdrawn"
        return ["ShareWithdrawn"]

    # --- what happens by itself -----------------------------------------------------------------

    def note_lapsed(self) -> list[str]:
        told = []
        for key in self.keys.values():
            if key.status == "active" and key.has_lapsed(self.now):
                key.end("expired", self.now)
                told.append("KeyExpired")
        return told

    def forget(self, keep_seconds: float) -> None:
        """Keys that ended long ago leave the doors' topic."""
        for key in self.keys.values():
            if key.ended_at is not None and key.ended_at < self.now - keep_seconds:
                key.is_forgotten = True

    def restore(self, key_id: str, earlier: ModelKey, keep_seconds: float) -> list[str]:
        """The tables say what was so earlier; what the log knows of the key's end is believed."""
        known, key = self.keys[key_id], copy.deepcopy(earlier)
        self.keys[key_id] = key
        if key.ended_at is not None and key.ended_at < self.now - keep_seconds:
            return []
        if known.status == "revoked" != key.status:
            key.end("revoked", self.now)
            return ["KeyRevoked"]
        if key.status != "active":
            return []
        if known.status == "expired":
            key.end("expired", self.now)
            return ["KeyExpired"]
        if known.expires_at is None or known.expires_at >= (key.expires_at or float("inf")):
            return []
        key.expires_at = known.expires_at
        return ["ExpiryChanged"]

    def restore_access(self, partner_id: int, holds: set[str], *, firehose: bool) -> list[str]:
        """Likewise of a partner: one that the log knows as suspended stays so, by its staff."""
        partner = self.partners[partner_id]
        was_suspended = bool(partner.holds)
        partner.holds, partner.firehose = set(holds), firehose
        if not was_suspended or partner.holds:
            return []
        return self._held(partner, "staff", is_held=True)

    # --- the door -------------------------------------------------------------------------------

    def refusal(self, key: ModelKey, address: str, now: float) -> str | None:
        """Why a door lets nobody in with `key` from `address`; None if it does."""
        if key.is_forgotten:
            return "unknown"
        if key.status != "active":
            return key.status
        if now < key.not_before:
            return "not_yet_valid"
        if key.has_lapsed(now):
            return "expired"
        if key.allowlist and not any(_covers(entry, address) for entry in key.allowlist):
            return "allowlist"
        return "suspended" if self.partners[key.partner].holds else None

    # --- look-ups -------------------------------------------------------------------------------

    def _partner(self, partner: int) -> ModelPartner:
        known = self.partners[partner]
        if not known.is_known:
            raise RefusedError(errors.NotFoundError)
        return known

    def _key(self, key_id: str) -> ModelKey:
        if key_id not in self.keys:
            raise RefusedError(errors.NotFoundError)
        return self.keys[key_id]

    def _live(self, key_id: str) -> ModelKey:
        key = self._key(key_id)
        if not key.is_live(self.now):
            raise RefusedError(errors.ConflictError)
        return key

    def _require_after(self, expires_at: float | None, not_before: float) -> None:
        if expires_at is not None and expires_at <= max(self.now, not_before):
            raise RefusedError(errors.InvalidError)


def _covers(entry: str, address: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(entry)


# --- what the events alone tell -------------------------------------------------------------------


@dataclass
class Fold:
    """Keys and partners by their events alone, as the audit trail could tell them.

    An event that contradicts those before it fails: a change of what was otherwise, an end of what
    had ended.
    """

    keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    partners: dict[int, dict[str, Any]] = field(default_factory=dict)

    def take(self, event: events.Event) -> None:
        """Take in the next event of the topic."""
        match event:
            case events.KeyIssued():
                self._issued(event)
            case events.KeyRevoked() | events.KeyExpired() | events.KeyRotated():
                self._ended(event)
            case events.AllowlistChanged():
                self._change(event, "allowlist")
            case events.ExpiryChanged():
                self._change(event, "expires_at")
            case events.FirehoseEnabled() | events.FirehoseDisabled():
                partner = self._partner_of(event)
                is_enabled = isinstance(event, events.FirehoseEnabled)
                assert partner["firehose_enabled"] != is_enabled, "told again"
                partner["firehose_enabled"] = is_enabled
            case events.PartnerSuspended() | events.PartnerResumed():
                self._held(event)
            case _:
                pass  # tells of no change

    def _issued(self, event: events.KeyIssued) -> None:
        assert event.key_id not in self.keys, f"{event.key_id} was issued twice"
        self.keys[event.key_id] = {
            "status": "active",
            "allowlist": event.allowlist,
            "not_before": event.not_before,
            "expires_at": event.expires_at,
            "predecessor_key_id": event.predecessor_key_id or None,
            "successor_key_id": None,
        }

    def _ended(self, event: events.KeyRevoked | events.KeyExpired | events.KeyRotated) -> None:
        key = self._of(event)
        match event:
            case events.KeyRevoked():
                assert key["status"] != "revoked", "revoked twice"
                key["status"] = "revoked"
            case events.KeyExpired():
                assert key["status"] == "active", "an ended key expired"
                key["status"] = "expired"
            case events.KeyRotated():
                assert key["successor_key_id"] is None, "rotated twice"
                key["successor_key_id"] = event.successor_key_id
                key["expires_at"] = event.overlap_ends_at

    def _change(self, event: Any, member: str) -> None:
        key = self._of(event)
        assert key["status"] == "active", f"{member} of an ended key changed"
        assert key[member] == event.before != event.after, f"{member} was {key[member]}"
        key[member] = event.after

    def _held(self, event: events.PartnerSuspended | events.PartnerResumed) -> None:
        holds = self._partner_of(event)["holds"]
        assert (event.hold in holds) == isinstance(event, events.PartnerResumed), "told again"
        if isinstance(event, events.PartnerResumed):
            holds.discard(event.hold)
            assert set(event.remaining) == holds, "tells other holds than stand"
        else:
            holds.add(event.hold)

    def _of(self, event: Any) -> dict[str, Any]:
        assert event.key_id in self.keys, f"an event of {event.key_id}, which nobody issued"
        return self.keys[event.key_id]

    def _partner_of(self, event: Any) -> dict[str, Any]:
        fresh = {"firehose_enabled": False, "holds": set()}
        return self.partners.setdefault(event.network_affiliate_id, fresh)


def kinds(told: Sequence[events.Event]) -> list[str]:
    """The names of the events' types, sorted."""
    return sorted(type(event).__name__ for event in told)
