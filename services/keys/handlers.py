"""The life of a key, one method a command (steps 2 to 4): load, decide, save, confirm.

Every command is about the network of the token and no other. Who lacks the permission is refused,
and the attempt is an event. A change is answered once Kafka has its state, or after a limited time
as not propagated: it stands in any case.

What a transaction locks, it locks in this order, so that none waits for another in a circle: the
answer of an Idempotency-Key, the master key and the network's data key, keys (one that exists
before the one that is made of it), a partner's access, the outbox.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from services.keys import allowlist, domain
from services.keys.domain import Key, Made, Partner, Wish
from services.keys.sealing import Sealing
from services.keys.staff import CHANGE, SUPER_USER, Permits, Staff
from services.keys.store import Store, Unit
from services.keys.telling import Confirmations, Confirmed, keep, tell
from shared import partner_key
from shared.clock import Clock
from shared.errors import ConflictError
from shared.partner_key import PartnerKey


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
    permits: Permits
    confirmations: Confirmations
    clock: Clock

    async def issue(self, staff: Staff, network_affiliate_id: int, wish: Wish) -> Shown:
        """A new key for a partner, with its secret.

        Raises:
            InvalidError: no integration is named, a wrong address, or a moment that has passed.
            NotFoundError: the network has no such partner.
            IneligibleError: the partner may not have a key, and that was not overridden.
            ConflictError: the integration has an active key.
        """
        await self.permits.permit(staff, CHANGE, "issue a key", network_affiliate_id)
        partner = await self.store.partner(staff.network_id, network_affiliate_id)
        await self._require_super_user(staff, partner, wish)
        obstacles = domain.overridden(
            partner, wish.override_reason, is_super_user=staff.caller.is_super_user
        )
        reason = (wish.override_reason if obstacles else "") or wish.reason
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("issuing a key") as unit:
            made = await self._made(unit, staff.network_id)
            key = domain.new_key(partner, wish, made, cause)
            lapsed = await unit.lapsed_namesake(key)
            changes = [domain.expired(lapsed, cause)] if lapsed else []
            for change in changes:
                await unit.save(change.now)
            if not await unit.insert(key):
                raise ConflictError(
                    f"The partner has an active key for {key.integration!r}: reveal that one, "
                    "revoke it first, or name another integration."
                )
            changes.append(domain.issued(key, cause, obstacles))
            told = await tell(unit, changes, cause)
        return Shown(key, made.secret, await self.confirmations.confirmed(told))

    async def _require_super_user(self, staff: Staff, partner: Partner, wish: Wish) -> None:
        """Deny who would set obstacles aside and may not."""
        tries = bool(wish.override_reason.strip()) and bool(partner.obstacles())
        if tries and not staff.caller.is_super_user:
            action = "override the refusal of a key"
            await self.permits.deny(staff, action, SUPER_USER, partner.network_affiliate_id)

    async def _made(self, unit: Unit, network_id: int) -> Made:
        key_id, secret = f"key_{secrets.token_hex(10)}", partner_key.generate()
        return Made(key_id, secret, await self.sealing.sealed(unit, network_id, key_id, secret))

    async def reveal(self, staff: Staff, key_id: str, reason: str) -> Shown:
        """The secret of a live key; that it was shown is committed before it is answered.

        Raises:
            NotFoundError: the network has no such key.
            ConflictError: it has ended.
        """
        await self.permits.permit(staff, CHANGE, f"reveal {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("revealing a key") as unit:
            key = await unit.key(staff.network_id, key_id)
            event = domain.reshared(key, cause)
            secret = await self.sealing.opened(unit, key)
            await unit.append([event], cause.at)
        self.confirmations.count([event])
        return Shown(key, secret)

    async def revoke(self, staff: Staff, key_id: str, reason: str) -> Confirmed[Key]:
        """End a key for good; asked again, tell whether that has reached Kafka.

        Raises:
            NotFoundError: the network has no such key.
        """
        await self.permits.permit(staff, CHANGE, f"revoke {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("revoking a key") as unit:
            key = await unit.key(staff.network_id, key_id)
            key, told = await keep(unit, key, domain.revoked(key, cause), cause)
        return Confirmed(key, await self.confirmations.confirmed(told))

    async def set_allowlist(
        self, staff: Staff, key_id: str, entries: Sequence[str], reason: str
    ) -> Confirmed[Key]:
        """Replace the addresses a live key may be used from.

        Raises:
            InvalidError: an entry is no address; the message names it.
            NotFoundError: the network has no such key.
            ConflictError: it has ended.
        """
        await self.permits.permit(staff, CHANGE, f"set the allowlist of {key_id}")
        wanted = allowlist.canonical(entries)
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("changing an allowlist") as unit:
            key = await unit.key(staff.network_id, key_id)
            change = domain.with_allowlist(key, wanted, cause)
            key, told = await keep(unit, key, change, cause)
        return Confirmed(key, await self.confirmations.confirmed(told))
