"""The budgets of networks as one gateway sees them, and what it tells the others. Pure.

The one object that `usage.py` feeds with records and asks for them, and whose buckets and counts
the door asks.
"""

from services.gateway.hourly import REALM_SUFFIX, HourlyLimiter
from services.gateway.ledger import BudgetState, Ledger, Name
from services.gateway.limiter import Limiter
from shared.clock import Clock
from shared.events import Usage, UsageBucket


class SharedBudgets:
    """Buckets and hourly counts that are one over all gateways.

    Args:
        clock: its monotonic time counts.
        replica: this gateway's name.
        incarnation: of its totals, which begin at 0: new with every start.
    """

    def __init__(self, clock: Clock, replica: str, incarnation: str) -> None:
        self._clock = clock
        self.ledger = Ledger(replica, incarnation, clock.monotonic())
        self.buckets = Limiter(clock, ledger=self.ledger)
        self.hourly = HourlyLimiter(clock, ledger=self.ledger)

    def hear(self, usage: Usage, made_at: float) -> None:
        """Take in a record, of whomever and in whatever order.

        Args:
            usage: the record.
            made_at: monotonic seconds at which it told the truth.
        """
        for heard in self.ledger.hear(usage, self._clock.monotonic()):
            if heard.name[1].endswith(REALM_SUFFIX):
                self.hourly.hear(heard, made_at)
            else:
                self.buckets.hear(heard, made_at)

    def to_tell(self, at: float) -> Usage | None:
        """The record that is due, if one is; `at` is now by the log's clock."""
        return self.ledger.to_tell(self._clock.monotonic(), at, self._bucket)

    def hurry(self) -> None:
        """What has changed is due at once: the gateway stops."""
        self.ledger.hurry()

    def catch_up(self) -> None:
        """All that the log held at the start was heard: from now on it tells what happens."""
        self.ledger.forget_minute()
        self.buckets.catch_up()

    def states(self, most: int) -> list[BudgetState]:
        """What operators see: of buckets and of hourly counts at most `most` each."""
        return [*self.buckets.states(most), *self.hourly.states(most)]

    def _bucket(self, name: Name) -> UsageBucket | None:
        return None if name[1].endswith(REALM_SUFFIX) else self.buckets.told(name)
