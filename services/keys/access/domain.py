"""What keeps a partner out, who may stream, and what a network's budgets are. Pure.

A partner is suspended while anything holds it: the network's staff, or the status of its account.
Each hold is placed and lifted by itself, so that an account that becomes active again does not lift
what staff have placed.
"""

from dataclasses import dataclass, replace

import msgspec

from services.keys.domain import Cause, Change
from shared import events
from shared.events import Event, NetworkState, PartnerAccess, SuspensionHold


@dataclass(frozen=True, slots=True)
class Access:
    """What a partner may do.

    Attributes:
        version: grows with each change; 0: nothing was ever published.
        held_by_staff: whether the network's staff have suspended it.
        held_by_status: whether its account's status, or its removal, does.
    """

    network_id: int
    network_affiliate_id: int
    version: int = 0
    firehose_enabled: bool = False
    held_by_staff: bool = False
    held_by_status: bool = False

    @property
    def holds(self) -> tuple[SuspensionHold, ...]:
        """What keeps it suspended, always in the same order."""
        found: dict[SuspensionHold, bool] = {
            "staff": self.held_by_staff,
            "account_status": self.held_by_status,
        }
        return tuple(hold for hold, stands in found.items() if stands)

    @property
    def suspended(self) -> bool:
        """Whether none of its keys works."""
        return bool(self.holds)

    def state(self) -> PartnerAccess:
        """What the doors know of it."""
        return PartnerAccess(
            network_id=self.network_id,
            network_affiliate_id=self.network_affiliate_id,
            version=self.version,
            firehose_enabled=self.firehose_enabled,
            suspended=self.suspended,
        )


def with_firehose(access: Access, *, enabled: bool, cause: Cause) -> Change[Access] | None:
    """A partner may open streams from now on, or not any more."""
    if access.firehose_enabled == enabled:
        return None
    kind = events.FirehoseEnabled if enabled else events.FirehoseDisabled
    event = kind(**cause.told(access.network_id, access.network_affiliate_id))
    return _changed(replace(access, firehose_enabled=enabled), event)


def with_hold(
    access: Access, hold: SuspensionHold, *, held: bool, cause: Cause
) -> Change[Access] | None:
    """`hold` is placed on a partner, or lifted; others stay as they are."""
    if (hold in access.holds) == held:
        return None
    by_staff = held if hold == "staff" else access.held_by_staff
    by_status = held if hold == "account_status" else access.held_by_status
    now = replace(access, held_by_staff=by_staff, held_by_status=by_status)
    told = cause.told(access.network_id, access.network_affiliate_id)
    if held:
        return _changed(now, events.PartnerSuspended(**told, hold=hold))
    return _changed(now, events.PartnerResumed(**told, hold=hold, remaining=now.holds))


def _changed(access: Access, event: Event) -> Change[Access]:
    access = replace(access, version=access.version + 1)
    return Change(access, (event, access.state()))


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
