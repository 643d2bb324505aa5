"""The life of a key once it is there, one method a command (steps 2 to 4): load, decide, save.

Every command is about the network of the token and no other. Who lacks the permission is refused,
and the attempt is an event. A change is answered once Kafka has its state, or after a limited time
as not propagated: it stands in any case.

What a transaction locks, it locks in this order, so that none waits for another in a circle: the
answer of an Idempotency-Key, the master key and the network's data key, keys (one that exists
before the one that is made of it), the links of a key, a partner's access, the outbox.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.keys import allowlist, domain
from services.keys.domain import Key
from services.keys.sealing import Sealing
from services.keys.staff import CHANGE, Permits, Staff
from services.keys.store import Store
from services.keys.telling import Confirmations, Confirmed, Shown, keep
from shared.clock import Clock


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
        return Shown(key, secret, cause.at)

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

    async def set_expiry(
        self, staff: Staff, key_id: str, expires_at: float | None, reason: str
    ) -> Confirmed[Key]:
        """Have a live key end at another moment (seconds, UTC), or never.

        Raises:
            InvalidError: the moment has passed, or is not before the year 9999.
            NotFoundError: the network has no such key.
            ConflictError: it has ended, or was rotated and would live longer.
        """
        await self.permits.permit(staff, CHANGE, f"set the expiry of {key_id}")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("changing an expiry") as unit:
            key = await unit.key(staff.network_id, key_id)
            change = domain.with_expiry(key, expires_at, cause)
            key, told = await keep(unit, key, change, cause)
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
