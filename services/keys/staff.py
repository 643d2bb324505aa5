"""Who calls, and what they may do: a network's staff, judged by permission, every refusal an event.

Permissions are those of the token. Who lacks one is refused only once it is committed that they
tried; a caller without a network has no trail to tell it in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from services.keys import domain
from services.keys.domain import Cause
from services.keys.metrics import KeysMetrics
from services.keys.store import Store
from shared.clock import Clock
from shared.errors import ForbiddenError
from shared.events import Actor
from shared.faultpoint import point
from shared.partner_key import masked_in
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
NAME_LENGTH_MAX: Final = 200
"""How much of somebody's name is kept."""


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
        """Them as the cause of what happens now; a key pasted into `reason` is masked."""
        caller = self.caller
        actor = Actor(
            subject=caller.subject,
            name=_readable(caller.name),
            behind=caller.behind,
            kind="partner" if caller.network_affiliate_id else "staff",
        )
        return Cause(actor, at, masked_in(reason), self.request_id, self.client_ip)


class Permits:
    """Lets pass who may, and refuses the others in the audit trail.

    Args:
        store: where a refusal is told.
        clock: the time.
        metrics: of the service.
    """

    def __init__(self, store: Store, clock: Clock, metrics: KeysMetrics) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics

    async def permit(
        self, staff: Staff, permissions: Sequence[str], action: str, partner: int = 0
    ) -> None:
        """Let pass staff of a network who hold one of `permissions`.

        Args:
            staff: who calls.
            permissions: those that allow `action`, each enough alone.
            action: what they try, as the trail tells it; at its end the key's id, if it has one.
            partner: whom it is about, 0 for nobody in particular.

        Raises:
            ForbiddenError: they may not; the attempt is an event.
            UnavailableError: Postgres does not answer, so that the attempt cannot be told.
        """
        point("keys.received")
        if not staff.caller.is_staff or _held(staff.caller).isdisjoint(permissions):
            await self.deny(staff, action, " or ".join(permissions), partner)
        point("keys.permitted")

    async def deny(self, staff: Staff, action: str, permission: str, partner: int = 0) -> NoReturn:
        """Refuse, once it is committed that this was tried.

        Raises:
            ForbiddenError: always.
            UnavailableError: Postgres does not answer.
        """
        self._metrics.denied.labels(action.partition(" key_")[0]).inc()
        if staff.network_id:
            cause = staff.cause(self._clock.time())
            event = domain.denied(staff.network_id, partner, action, permission, cause)
            async with self._store.transaction("noting a refusal") as unit:
                await unit.append([event], cause.at)
        raise ForbiddenError


def _readable(name: str) -> str:
    """A name as rows and events keep it: issuers let people choose theirs."""
    return "".join(letter for letter in name if letter.isprintable())[:NAME_LENGTH_MAX]


def _held(caller: Caller) -> frozenset[str]:
    """The caller's permissions, and `SUPER_USER` by the claim of that name alone."""
    given = caller.permissions - {SUPER_USER}
    return given | {SUPER_USER} if caller.is_super_user else given
