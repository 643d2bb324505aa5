"""How keys come into being (steps 2 to 4): issued, or rotated; once, however often it is asked.

A request with an `Idempotency-Key` first takes that key, in its transaction: an equal one that
comes meanwhile waits, and then finds what was answered. So either all of it stands, the key, what
tells of it and the answer, or nothing does. Locks are taken in the order that `handlers` names.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from services.keys import domain, eligibility, idempotency, rotation
from services.keys.domain import Cause, Change, Key, Made, Wish
from services.keys.idempotency import Answered, Once
from services.keys.rotation import Turnover
from services.keys.sealing import Sealing
from services.keys.staff import CHANGE, SUPER_USER, Permits, Staff
from services.keys.store import Store, Unit
from services.keys.telling import Confirmations, Shown, Told, tell
from shared import partner_key
from shared.clock import Clock
from shared.errors import ConflictError
from shared.faultpoint import point

_Making = tuple[Shown, Sequence[Change[Key]]]


@dataclass(frozen=True, slots=True)
class Issuing:
    """What the API calls for a new key.

    Raises, all of them:
        ForbiddenError: the caller is not staff, or lacks the permission.
        ConflictError: the `Idempotency-Key` was used for another request, or its key has ended.
        UnavailableError: Postgres does not answer; nothing has changed.
    """

    store: Store
    sealing: Sealing
    permits: Permits
    confirmations: Confirmations
    clock: Clock

    async def issue(
        self, staff: Staff, network_affiliate_id: int, wish: Wish, once: Once | None = None
    ) -> Shown:
        """A new key for a partner, with its secret.

        Raises:
            InvalidError: no integration is named, a wrong address, or a wrong moment.
            NotFoundError: the network has no such partner.
            IneligibleError: the partner may not have a key, and that was not overridden.
            ConflictError: the integration has an active key.
        """
        await self.permits.permit(staff, CHANGE, "issue a key", network_affiliate_id)
        if wish.override_reason.strip() and not staff.caller.is_super_user:
            await self._deny_override(staff, network_affiliate_id)
        at = self.clock.time()
        make = partial(self._issued, staff, network_affiliate_id, wish, at)
        return await self._once("issuing a key", once, staff.cause(at, wish.reason), make)

    async def _deny_override(self, staff: Staff, network_affiliate_id: int) -> None:
        """Refuse who would set obstacles aside and may not; where none stand, nobody does."""
        partner = await self.store.partner(staff.network_id, network_affiliate_id)
        if partner.obstacles():
            action = "override the refusal of a key"
            await self.permits.deny(staff, action, SUPER_USER, network_affiliate_id)

    async def _issued(
        self, staff: Staff, network_affiliate_id: int, wish: Wish, at: float, unit: Unit
    ) -> _Making:
        partner = await unit.partner(staff.network_id, network_affiliate_id)
        obstacles = eligibility.overridden(
            partner, wish.override_reason, is_super_user=staff.caller.is_super_user
        )
        cause = staff.cause(at, (wish.override_reason if obstacles else "") or wish.reason)
        made = await self._made(unit, staff.network_id)
        key = domain.new_key(partner, wish, made, cause)
        lapsed = await unit.lapsed_namesake(key)
        changes = [domain.expired(lapsed, cause)] if lapsed else []
        for change in changes:
            await unit.save(change.now)
        if not await unit.insert(key) or await unit.active_namesake(key):
            raise ConflictError(
                f"The partner has an active key for {key.integration!r}: reveal or rotate that "
                "one, revoke it first, or name another integration."
            )
        return Shown(key, made.secret, at), [*changes, domain.issued(key, cause, obstacles)]

    async def rotate(
        self, staff: Staff, key_id: str, turnover: Turnover, once: Once | None = None
    ) -> Shown:
        """A new key in the place of another, with its secret; that one lives on for the overlap.

        Whether the partner may have a key is not asked: a key that leaked must be replaceable.

        Raises:
            InvalidError: the moment at which the new key is to end has passed.
            NotFoundError: the network has no such key.
            ConflictError: it has ended, or was rotated before.
        """
        await self.permits.permit(staff, CHANGE, f"rotate {key_id}")
        cause = staff.cause(self.clock.time(), turnover.reason)
        make = partial(self._rotated, staff.network_id, key_id, turnover, cause)
        return await self._once("rotating a key", once, cause, make)

    async def _rotated(
        self, network_id: int, key_id: str, turnover: Turnover, cause: Cause, unit: Unit
    ) -> _Making:
        made = await self._made(unit, network_id)
        old = await unit.key(network_id, key_id)
        before, after = rotation.rotated(old, made, turnover, cause)
        await unit.save(before.now)
        if not await unit.insert(after.now):
            raise ConflictError(
                f"The partner has another active key for {old.integration!r}: rotate that one."
            )
        shown = Shown(after.now, made.secret, cause.at, predecessor=before.now)
        return shown, [before, after]

    async def _made(self, unit: Unit, network_id: int) -> Made:
        key_id, secret = f"key_{secrets.token_hex(10)}", partner_key.generate()
        return Made(key_id, secret, await self.sealing.sealed(unit, network_id, key_id, secret))

    # --- once -----------------------------------------------------------------------------------

    async def _once(
        self,
        doing: str,
        once: Once | None,
        cause: Cause,
        make: Callable[[Unit], Awaitable[_Making]],
    ) -> Shown:
        """What `make` shows, or has shown to the same request before."""
        async with self.store.transaction(doing) as unit:
            answered = await unit.claim(once, cause.at) if once else None
            point("keys.claimed")
            if once and answered:
                shown, told = await self._again(unit, once, answered, cause)
            else:
                shown, changes = await make(unit)
                if once:
                    answer = idempotency.answer_of(shown.key, shown.predecessor, shown.at)
                    await unit.keep_answer(once, shown.key.key_id, HTTPStatus.CREATED, answer)
                    point("keys.answer_kept")
                told = await tell(unit, changes, cause)
        return replace(shown, propagated=await self.confirmations.confirmed(told))

    async def _again(
        self, unit: Unit, once: Once, answered: Answered, cause: Cause
    ) -> tuple[Shown, Told]:
        """The same answer again, which is told as the secret's being shown again."""
        answered.require_same(once)
        key = await unit.key(once.network_id, answered.key_id)
        idempotency.require_live(key, cause.at)
        event = domain.reshared(key, cause, "retry")
        before = answered.answer["predecessor"]
        shown = Shown(
            idempotency.as_answered(key, answered.answer["key"]),
            await self.sealing.opened(unit, key),
            answered.answer["at"],
            predecessor=idempotency.as_answered(key, before) if before else None,
        )
        ids = await unit.pending(key)
        if shown.predecessor is not None:
            ids += await unit.pending(shown.predecessor)
        return shown, Told([*ids, *await unit.append([event], cause.at)], [event])
