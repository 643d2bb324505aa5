"""What staff do about partners and budgets, one method a command (steps 2 to 4)."""

from dataclasses import dataclass

from services.keys.access import domain
from services.keys.access.domain import Access
from services.keys.staff import CHANGE, READ, SUPER_USER, Permits, Staff
from services.keys.store import Store
from services.keys.telling import Confirmations, Confirmed, keep
from shared.clock import Clock
from shared.events import NetworkState


@dataclass(frozen=True, slots=True)
class AccessHandlers:
    """What the API of access calls.

    Raises, all of them:
        ForbiddenError: the caller is not staff, or lacks the permission.
        UnavailableError: Postgres does not answer; nothing has changed.
    """

    store: Store
    permits: Permits
    confirmations: Confirmations
    clock: Clock

    async def set_firehose(
        self, staff: Staff, network_affiliate_id: int, *, enabled: bool, reason: str
    ) -> Confirmed[Access]:
        """Let a partner open streams, or end them.

        Raises:
            NotFoundError: the network has no such partner.
        """
        await self.permits.permit(staff, CHANGE, "switch the firehose", network_affiliate_id)
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("switching a partner's firehose") as unit:
            await unit.partner(staff.network_id, network_affiliate_id)
            access = await unit.access(staff.network_id, network_affiliate_id)
            change = domain.with_firehose(access, enabled=enabled, cause=cause)
            access, told = await keep(unit, access, change, cause)
        return Confirmed(access, await self.confirmations.confirmed(told))

    async def set_suspension(
        self, staff: Staff, network_affiliate_id: int, *, suspended: bool, reason: str
    ) -> Confirmed[Access]:
        """Place the staff's hold on a partner, or lift it; that of the account's status stays.

        Raises:
            NotFoundError: the network has no such partner.
        """
        action = "suspend a partner" if suspended else "resume a partner"
        await self.permits.permit(staff, CHANGE, action, network_affiliate_id)
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("suspending or resuming a partner") as unit:
            await unit.partner(staff.network_id, network_affiliate_id)
            access = await unit.access(staff.network_id, network_affiliate_id)
            change = domain.with_hold(access, "staff", held=suspended, cause=cause)
            access, told = await keep(unit, access, change, cause)
        return Confirmed(access, await self.confirmations.confirmed(told))

    async def budgets(self, staff: Staff) -> NetworkState:
        """The network's budgets."""
        await self.permits.permit(staff, (*READ, SUPER_USER), "read budgets")
        return await self.store.budgets(staff.network_id)

    async def set_budgets(
        self, staff: Staff, wanted: NetworkState, reason: str
    ) -> Confirmed[NetworkState]:
        """Set the network's budgets; only Super Users may."""
        await self.permits.permit(staff, (SUPER_USER,), "set budgets")
        cause = staff.cause(self.clock.time(), reason)
        async with self.store.transaction("setting budgets") as unit:
            before = await unit.budgets(staff.network_id)
            change = domain.with_budgets(before, wanted, cause)
            now, told = await keep(unit, before, change, cause)
        return Confirmed(now, await self.confirmations.confirmed(told))
