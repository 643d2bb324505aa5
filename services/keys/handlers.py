"""What the key service does, one method a command (steps 2 to 4): load, decide, save, confirm.

Every command is about the network of the token and no other. Who lacks the permission is refused,
and the attempt is an event. A change is answered once Kafka has its state, or after
`confirm_seconds` as not propagated: it stands in any case.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from services.keys import allowlist, domain
from services.keys.domain import Cause, Change, Key, Obstacle, Owned, Partner
from services.keys.metrics import KeysMetrics
from services.keys.sealing import Sealing
from services.keys.store import Search, Store, Unit
from shared import partner_key
from shared.clock import Clock
from shared.errors import ConflictError, ForbiddenError
from shared.events import Actor, Event, NetworkState, PartnerAccess
from shared.faultpoint import point
from shared.partner_key import PartnerKey
from shared.tokens import (
    ACCOUNTS_HISTORY_FULL,
    ACCOUNTS_HISTORY_READ,
    SECURITY_FULL,
    SECURITY_READ,
    Caller,
)

CHANGE: Final = (SECURITY_FULL, ACCOUNTS_HISTORY_FULL)
READ: Final = (*CHANGE, SECURITY_READ, ACCOUNTS_HISTORY_READ)
SUPER_USER: Final = "super_user"
"""Stands beside permissions here; on the wire it is a claim of its own."""

O = TypeVar("O", Key, PartnerAccess, NetworkState)  # noqa: E741 - a type variable


class Confirming(Protocol):
    """What tells whether Kafka has confirmed rows of the outbox."""

    async def wait_published(self, ids: Sequence[int], timeout_seconds: float) -> bool:
        """Whether all of `ids` are confirmed, soon enough."""
        ...


@dataclass(frozen=True, slots=True)
class Staff:
    """Who calls, and by which request."""

    caller: Caller
    request_id: str
    client_ip: str

    @property
    def network_id(self) -> int:
        """Their network."""
        return self.caller.network_id

    def cause(self, at: float, reason: str = "") -> Cause:
        """Them as the cause of what happens now."""
        caller = self.caller
        actor = Actor(
            subject=caller.subject,
            name=caller.name,
            behind=caller.behind,
            kind="partner" if caller.network_affiliate_id else "staff",
        )
        return Cause(actor, at, reason, self.request_id, self.client_ip)


@dataclass(frozen=True, slots=True)
class Wish:
    """The key that staff ask for; `expires_at` is seconds, UTC, or None for never."""

    integration: str
    allowlist: Sequence[str] = ()
    expires_at: float | None = None
    reason: str = ""
    override_reason: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What a transaction appended: outbox rows to wait for, and the events in them."""

    ids: Sequence[int]
    events: Sequence[Event] = ()


@dataclass(frozen=True, slots=True)
class Confirmed(Generic[O]):
    """A thing after a change, and whether Kafka has its state."""

    now: O
    propagated: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """A key with its secret, for the one answer that carries it."""

    key: Key
    secret: PartnerKey
    propagated: bool = True


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the API calls.

    Raises, all of them:
        ForbiddenError: the caller is not staff, or lacks the permission.
        UnavailableError: Postgres does not answer; nothing has changed.
    """

    store: Store
    sealing: Sealing
    outbox: Confirming
    clock: Clock
    metrics: KeysMetrics
    confirm_seconds: float

    # --- keys -----------------------------------------------------------------------------------

    async def issue(self, staff: Staff, network_affiliate_id: int, wish: Wish) -> Shown:
        """A new key for a partner, with its secret.

        Raises:
            InvalidError: no integration is named, a wrong address, or a moment that has passed.
            NotFoundError: the network has no such partner.
            IneligibleError: the partner may not have a key, and that was not overridden.
            ConflictError: the integration has an active key.
        """
        await self._permit(staff, CHANGE, "issue a key", network_affiliate_id)
        partner = await self.store.partner(staff.network_id, network_affiliate_id)
        overridden = await self._overridden(staff, partner, wish)
        cause = staff.cause(
            self.clock.time(), (wish.override_reason if overridden else "") or wish.reason
        )
        async with self.store.transaction("issuing a key") as unit:
            key, secret = await self._made(unit, partner, wish, cause)
            lapsed = await unit.lapsed_namesake(key)
            changes = [domain.expired(lapsed, cause)] if lapsed else []
            for change in changes:
                await unit.save(change.now)
            if not await unit.insert(key):
                raise ConflictError(
                    f"The partner has an active key for {key.integration!r}: reveal that one, "
                    "revoke it first, or name another integration."
                )
            changes.append(domain.issued(key, cause, overridden))
            told = await _append(unit, changes, cause)
        return Shown(key, secret, await self._confirmed(told))

    async def _overridden(self, staff: Staff, partner: Partner, wish: Wish) -> tuple[Obstacle, ...]:
        """The obstacles that a Super User sets aside; none if there are none."""
        obstacles = partner.obstacles()
        if not obstacles:
            return ()
        if not wish.override_reason.strip():
            raise domain.IneligibleError(obstacles)
        if not staff.caller.is_super_user:
            action = "override the refusal of a key"
            await self._deny(staff, action, SUPER_USER, partner.network_affiliate_id)
        return obstacles

    async def _made(
        self, unit: Unit, partner: Partner, wish: Wish, cause: Cause
    ) -> tuple[Key, PartnerKey]:
        secret = partner_key.generate()
        key_id = f"key_{secrets.token_hex(10)}"
        network_id = partner.network_id
        key = Key(
            key_id=key_id,
            network_id=network_id,
            network_affiliate_id=partner.network_affiliate_id,
            integration=domain.integration_name(wish.integration),
            digest=secret.digest,
            masked=secret.masked,
            sealed=await self.sealing.sealed(unit, network_id, key_id, secret),
            allowlist=allowlist.canonical(wish.allowlist),
            expires_at=domain.checked_expiry(wish.expires_at, cause.at),
            created_at=cause.at,
            created_by=cause.actor.subject,
        )
        return key, secret

    async def search(self, staff: Staff, search: Search, limit: int) -> list[Key]:
        """Up to `limit` keys of the network, newest first.

        Raises:
            NotFoundError: the search is for a partner that the network does not have.
        """
        await self._permit(staff, READ, "list keys", search.network_affiliate_id or 0)
        if search.network_affiliate_id is not None:
            await self.store.partner(staff.network_id, search.network_affiliate_id)
        return await self.store.search(staff.network_id, search, self.clock.time(), limit)

    async def reveal(self, staff: Staff, key_id: str, reason: str) -> Shown:
        """The secret of an active key; that it was shown is committed before it is answered.

        Raises:
            NotFoundError: the network has no such key.
            ConflictError: it is not active.
        """
        await self._permit(staff, CHANGE, f"reveal {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("revealing a key") as unit:
            key = await unit.key(staff.network_id, key_id)
            event = domain.reshared(key, cause)
            secret = await self.sealing.opened(unit, key)
            await unit.append([event], cause.at)
        self._count([event])
        return Shown(key, secret)

    async def revoke(self, staff: Staff, key_id: str, reason: str) -> Confirmed[Key]:
        """End a key for good; asked again, tell whether that has reached Kafka.

        Raises:
            NotFoundError: the network has no such key.
        """
        await self._permit(staff, CHANGE, f"revoke {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("revoking a key") as unit:
            key = await unit.key(staff.network_id, key_id)
            key, told = await _kept(unit, key, domain.revoked(key, cause), cause)
        return Confirmed(key, await self._confirmed(told))

    async def set_allowlist(
        self, staff: Staff, key_id: str, entries: Sequence[str], reason: str
    ) -> Confirmed[Key]:
        """Replace the addresses an active key may be used from.

        Raises:
            InvalidError: an entry is no address; the message names it.
            NotFoundError: the network has no such key.
            ConflictError: it is not active.
        """
        await self._permit(staff, CHANGE, f"set the allowlist of {key_id}")
        wanted = allowlist.canonical(entries)
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("changing an allowlist") as unit:
            key = await unit.key(staff.network_id, key_id)
            change = domain.with_allowlist(key, wanted, cause)
            key, told = await _kept(unit, key, change, cause)
        return Confirmed(key, await self._confirmed(told))

    # --- partners and networks ------------------------------------------------------------------

    async def set_firehose(
        self, staff: Staff, network_affiliate_id: int, *, enabled: bool, reason: str
    ) -> Confirmed[PartnerAccess]:
        """Let a partner open streams, or end them.

        Raises:
            NotFoundError: the network has no such partner.
        """
        await self._permit(staff, CHANGE, "switch the firehose", network_affiliate_id)
        await self.store.partner(staff.network_id, network_affiliate_id)
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("switching a partner's firehose") as unit:
            access = await unit.access(staff.network_id, network_affiliate_id)
            change = domain.with_firehose(access, enabled=enabled, cause=cause)
            access, told = await _kept(unit, access, change, cause)
        return Confirmed(access, await self._confirmed(told))

    async def budgets(self, staff: Staff) -> NetworkState:
        """The network's budgets."""
        await self._permit(staff, (*READ, SUPER_USER), "read budgets")
        return await self.store.budgets(staff.network_id)

    async def set_budgets(
        self, staff: Staff, wanted: NetworkState, reason: str
    ) -> Confirmed[NetworkState]:
        """Set the network's budgets; only Super Users may."""
        await self._permit(staff, (SUPER_USER,), "set budgets")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("setting budgets") as unit:
            before = await unit.budgets(staff.network_id)
            change = domain.with_budgets(before, wanted, cause)
            now, told = await _kept(unit, before, change, cause)
        return Confirmed(now, await self._confirmed(told))

    # --- what they have in common ---------------------------------------------------------------

    async def _permit(
        self, staff: Staff, permissions: Sequence[str], action: str, partner: int = 0
    ) -> None:
        if not staff.caller.is_staff or _held(staff.caller).isdisjoint(permissions):
            await self._deny(staff, action, " or ".join(permissions), partner)

    async def _deny(
        self, staff: Staff, action: str, permission: str, network_affiliate_id: int = 0
    ) -> None:
        """Refuse, once it is committed that this was tried; who has no network has no trail."""
        self.metrics.denied.labels(action.partition(" key_")[0]).inc()
        if staff.network_id:
            cause = staff.cause(self.clock.time())
            event = domain.denied(staff.network_id, network_affiliate_id, action, permission, cause)
            async with self.store.transaction("noting a refusal") as unit:
                await unit.append([event], cause.at)
        raise ForbiddenError

    async def _confirmed(self, told: Told) -> bool:
        point("keys.after_commit")
        self._count(told.events)
        with self.metrics.confirm_seconds.time():
            propagated = await self.outbox.wait_published(told.ids, self.confirm_seconds)
        if not propagated:
            self.metrics.unconfirmed.inc()
        return propagated

    def _count(self, told: Sequence[Event]) -> None:
        for event in told:
            self.metrics.changes.labels(type(event).__name__).inc()


def _held(caller: Caller) -> frozenset[str]:
    """The caller's permissions, and `SUPER_USER` by the claim of that name alone."""
    given = caller.permissions - {SUPER_USER}
    return given | {SUPER_USER} if caller.is_super_user else given


async def _kept(unit: Unit, before: O, change: Change[O] | None, cause: Cause) -> tuple[O, Told]:
    """The thing after `change`, and the rows to wait for: also those of an earlier call."""
    if change is None:
        return before, Told(await unit.pending(before))
    await unit.save(change.now)
    return change.now, await _append(unit, [change], cause)


async def _append(unit: Unit, changes: Sequence[Change[Owned]], cause: Cause) -> Told:
    told = [event for change in changes for event in change.events]
    ids = await unit.append(told, cause.at)
    point("keys.before_commit")
    return Told(ids, told)
