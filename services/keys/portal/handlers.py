"""What a partner user sees of their keys, decided and told in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.keys import domain
from services.keys.domain import LIVE, Key
from services.keys.portal.store import PortalStore
from services.keys.sealing import Sealing
from services.keys.staff import Permits, Staff
from services.keys.telling import Confirmations
from shared.clock import Clock
from shared.errors import NotFoundError
from shared.partner_key import PartnerKey

SHOWN_MAX: Final = 100
"""Keys that are shown; a partner with more sees those that work, and the newest."""


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key of the caller, with its secret if that may be seen now."""

    key: Key
    secret: PartnerKey | None


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The caller's keys; those of a suspended partner come without secrets."""

    keys: Sequence[OwnKey]
    is_suspended: bool
    at: float


@dataclass(frozen=True, slots=True)
class PortalHandlers:
    """What the API calls."""

    store: PortalStore
    sealing: Sealing
    permits: Permits
    confirmations: Confirmations
    clock: Clock

    async def own(self, user: Staff, *, masked: bool) -> OwnKeys:
        """The keys of the partner whose user calls.

        Args:
            user: who calls.
            masked: whether to leave all secrets out; then nothing was shown and nothing is told.

        Raises:
            ForbiddenError: the caller is no partner's user.
            NotFoundError: the partner was never issued a key.
            UnavailableError: Postgres does not answer; nothing was shown.
        """
        caller = user.caller
        if caller.network_id == 0 or caller.network_affiliate_id == 0:
            await self.permits.deny(user, "see a partner's own keys", "partner")
        cause = user.cause(self.clock.time())
        async with self.store.transaction("showing a partner's own keys") as unit:
            whose = (caller.network_id, caller.network_affiliate_id)
            keys = await unit.own(*whose, cause.at, SHOWN_MAX)
            is_suspended = await unit.is_suspended(*whose)
            shown: dict[str, PartnerKey] = {}
            for key in keys:
                if not (masked or is_suspended) and key.shown_status(cause.at) in LIVE:
                    shown[key.key_id] = await self.sealing.opened(unit, key)
            told = [domain.reshared(key, cause, "partner") for key in keys if key.key_id in shown]
            if told:
                await unit.append(told, cause.at)
        if not keys:
            raise NotFoundError("No API key was ever issued to you; ask your network for one.")
        self.confirmations.count(told)
        found = [OwnKey(key, shown.get(key.key_id)) for key in keys]
        return OwnKeys(found, is_suspended, cause.at)
