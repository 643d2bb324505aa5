"""How a change is kept and told (steps 4 and 5): in one transaction, then confirmed by Kafka.

A change stands once its transaction has committed. It is answered when Kafka has confirmed what
tells it, or after a limited time as not propagated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.keys.domain import Cause, Change, Key
from services.keys.mending import Owned
from services.keys.metrics import KeysMetrics
from services.keys.store import Unit
from shared.events import Event
from shared.faultpoint import point
from shared.partner_key import PartnerKey

O = TypeVar("O", bound=Owned)  # noqa: E741 - a type variable


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
    """A key with its secret, for the one answer that carries it.

    Attributes:
        at: the moment as of which it is shown; seconds, UTC.
        predecessor: the key that gave way to it, in the answer to a rotation.
    """

    key: Key
    secret: PartnerKey
    at: float
    propagated: bool = True
    predecessor: Key | None = None


class Confirming(Protocol):
    """What tells whether Kafka has confirmed rows of the outbox."""

    async def wait_published(self, ids: Sequence[int], timeout_seconds: float) -> bool:
        """Whether all of `ids` are confirmed, soon enough."""
        ...


class Confirmations:
    """Counts what was committed, and waits for Kafka to confirm it.

    Args:
        outbox: tells what is confirmed.
        metrics: of the service.
        confirm_seconds: how long to wait.
    """

    def __init__(self, outbox: Confirming, metrics: KeysMetrics, confirm_seconds: float) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._confirm_seconds = confirm_seconds

    async def confirmed(self, told: Told) -> bool:
        """Whether Kafka has all of `told`, whose transaction has committed, soon enough."""
        point("keys.after_commit")
        self.count(told.events)
        with self._metrics.confirm_seconds.time():
            propagated = await self._outbox.wait_published(told.ids, self._confirm_seconds)
        if not propagated:
            self._metrics.unconfirmed.inc()
        point("keys.confirmed")
        return propagated

    def count(self, told: Sequence[Event]) -> None:
        """Count committed events that nobody waits for."""
        for event in told:
            self._metrics.changes.labels(type(event).__name__).inc()


async def keep(unit: Unit, before: O, change: Change[O] | None, cause: Cause) -> tuple[O, Told]:
    """The thing after `change`, and the rows to wait for: also those of an earlier call."""
    if change is None:
        return before, Told(await unit.pending(before))
    await unit.save(change.now)
    return change.now, await tell(unit, [change], cause)


async def tell(unit: Unit, changes: Sequence[Change[Owned]], cause: Cause) -> Told:
    """Append what tells of `changes`, as the last thing that `unit` does."""
    told = [event for change in changes for event in change.events]
    ids = await unit.append(told, cause.at)
    point("keys.before_commit")
    return Told(ids, told)
