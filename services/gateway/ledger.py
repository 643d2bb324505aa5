"""Who admitted how much: own running totals, the others' as they arrive. Pure, its time given.

Totals only grow, so a record that is lost, late or repeated corrects itself: of what a replica
tells, only what exceeds the most it ever told counts. A total is told 50 ms after it changed
(`TELL_SECONDS`), sooner once much of it is untold, and everything is told again in turn, once a
second some, so that what was lost is made good also when nothing changes any more.

While nothing at all is heard for `SILENCE_SECONDS` (not even our own records, which come back),
nobody knows what the others admit. Then everybody keeps to a share of each budget: in proportion to
the totals of the last minute that the log has confirmed. Since all know the same ones, the shares
add up to one.

Memory: a number for each pair of a budget in use and a replica heard of; `PEERS_MAX` replicas, of
which the one not heard of for longest is forgotten first.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from shared.events import Usage, UsageBucket, UsageTotal

TELL_SECONDS: Final = 0.05
IDLE_SECONDS: Final = 1.0
"""How often there is a record at least, and how often totals are told again."""
TOTALS_MAX: Final = 1_000
"""Totals in one record (about 80 KB); the others follow in the next."""
AGAIN_MAX: Final = 50
"""Totals told again, unchanged, each `IDLE_SECONDS`."""
SILENCE_SECONDS: Final = 2.0
PRESENT_SECONDS: Final = 10.0
"""A replica is there if it was heard so lately before the silence."""
PEERS_MAX: Final = 1_000
FIRST_SEQUENCES: Final = 40
"""The first record heard of an incarnation that told so many before tells nothing of when."""
MINUTE_STEPS: Final = 6
STEP_SECONDS: Final = 10.0

Name = tuple[int, str]
"""A network and which of its budgets."""


@dataclass(slots=True)
class Account:
    """What this replica admitted from one budget.

    Attributes:
        name: of the budget.
        total: ever.
        asked: how much of it was handed over to be told.
        confirmed: how much of it the log has.
    """

    name: Name
    total: int = 0
    asked: int = 0
    confirmed: int = 0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget as operators see it.

    Attributes:
        name: of the budget.
        level: whole requests that it would admit now; below 0 in debt.
        admitted: requests that this replica admitted, ever.
        refused: those it refused.
        in_shadow: those it would have refused.
    """

    name: Name
    level: float
    admitted: int
    refused: int
    in_shadow: int


@dataclass(frozen=True, slots=True)
class Heard:
    """News of one budget.

    Attributes:
        name: of the budget.
        replica: who admitted.
        admitted: how many requests more than was known.
        bucket: as that replica sees it; None for what has none.
    """

    name: Name
    replica: str
    admitted: int
    bucket: UsageBucket | None


@dataclass(slots=True)
class _Peer:
    heard_at: float
    is_midway: bool
    totals: dict[Name, int] = field(default_factory=dict)


class Ledger:
    """The totals of one replica and of those it has heard of.

    Args:
        replica: this one's name.
        incarnation: of its totals, which begin at 0.
        now: monotonic seconds.
    """

    def __init__(self, replica: str, incarnation: str, now: float) -> None:
        self.replica = replica
        self.incarnation = incarnation
        self.heard_at = now
        self._is_urgent = False
        self._told_at = now
        self._idle_at = now - IDLE_SECONDS
        self._sequence = 0
        self._accounts: dict[Name, Account] = {}
        self._changed: deque[Account] = deque()
        self._again: deque[Account] = deque()
        self._peers: dict[tuple[str, str], _Peer] = {}
        self._others: dict[Name, int] = {}
        self._minute: deque[tuple[float, dict[Name, int], dict[Name, int]]] = deque()

    # --- what this replica admits -----------------------------------------------------------------

    def account(self, name: Name) -> Account:
        """The account of a budget."""
        found = self._accounts.get(name)
        if found is None:
            found = self._accounts[name] = Account(name)
            self._again.append(found)
        return found

    def admit(self, account: Account, untold_max: int) -> None:
        """Count one; with `untold_max` of them untold a record is due at once."""
        account.total += 1
        untold = account.total - account.asked
        if untold == 1:
            self._changed.append(account)
        if untold >= untold_max:
            self._is_urgent = True

    def hurry(self) -> None:
        """Make due at once what has changed."""
        self._is_urgent = True

    def to_tell(
        self, now: float, at: float, bucket_of: Callable[[Name], UsageBucket | None]
    ) -> Usage | None:
        """The record that is due, if one is; the first is at once.

        Args:
            now: monotonic seconds.
            at: the same moment by the log's clock.
            bucket_of: what the buckets hold.
        """
        is_idle = now - self._idle_at >= IDLE_SECONDS
        is_due = self._changed and (self._is_urgent or now - self._told_at >= TELL_SECONDS)
        if not (is_idle or is_due):
            return None
        accounts = self._taken(AGAIN_MAX if is_idle else 0)
        self._told_at = now
        self._idle_at = now if is_idle else self._idle_at
        self._is_urgent = False
        self._sequence += 1
        return Usage(
            replica=self.replica,
            incarnation=self.incarnation,
            sequence=self._sequence - 1,
            at=at,
            totals=tuple(_told(account, bucket_of(account.name)) for account in accounts),
        )

    def _taken(self, again: int) -> Iterable[Account]:
        """What changed, as far as a record holds it, and some of the others in turn."""
        count = min(len(self._changed), TOTALS_MAX)
        taken = {account.name: account for account in _from_left(self._changed, count)}
        for account in _from_left(self._again, min(again, len(self._again))):
            self._again.append(account)
            if account.asked == account.total:
                taken[account.name] = account
        for account in taken.values():
            account.asked = account.total
        return taken.values()

    def confirm(self, usage: Usage) -> None:
        """The log has `usage`, a record of ours."""
        for told in usage.totals:
            account = self._accounts[told.network_id, told.realm]
            account.confirmed = max(account.confirmed, told.total)

    # --- what the others admit --------------------------------------------------------------------

    def hear(self, usage: Usage, now: float) -> list[Heard]:
        """What `usage` tells that was not known; nothing of our own."""
        self._remember_minute(now)
        self.heard_at = now
        if (usage.replica, usage.incarnation) == (self.replica, self.incarnation):
            return []
        peer = self._peer(usage, now)
        return [self._news(usage.replica, peer, told) for told in usage.totals]

    def _peer(self, usage: Usage, now: float) -> _Peer:
        """What is known of an incarnation, which moves to the end of those last heard."""
        key = (usage.replica, usage.incarnation)
        peer = self._peers.pop(key, None)
        if peer is None:
            peer = _Peer(now, is_midway=usage.sequence >= FIRST_SEQUENCES)
            if len(self._peers) >= PEERS_MAX:
                del self._peers[next(iter(self._peers))]
        peer.heard_at = now
        self._peers[key] = peer
        return peer

    def _news(self, replica: str, peer: _Peer, told: UsageTotal) -> Heard:
        name = (told.network_id, told.realm)
        known = peer.totals.get(name, told.total if peer.is_midway else 0)
        more = max(told.total - known, 0)
        peer.totals[name] = known + more
        if more:
            self._others[name] = self._others.get(name, 0) + more
        return Heard(name, replica, more, told.bucket)

    # --- silence ----------------------------------------------------------------------------------

    def is_silent(self, now: float) -> bool:
        """Whether nothing was heard for so long that budgets have to be shared out."""
        return now - self.heard_at > SILENCE_SECONDS and self.others_present() > 0

    def others_present(self) -> int:
        """How many other replicas were there when something was heard last."""
        since = self.heard_at - PRESENT_SECONDS
        count = 0
        for peer in reversed(self._peers.values()):
            if peer.heard_at < since:
                break
            count += 1
        return count

    def share(self, name: Name) -> float:
        """Our part of a budget while nobody hears of the others, 0 to 1.

        A little is spread evenly, so that one who admitted nothing lately has something too.
        """
        _, own_before, others_before = self._minute[0] if self._minute else (0.0, {}, {})
        account = self._accounts.get(name)
        own = (account.confirmed if account else 0) - own_before.get(name, 0)
        others = self._others.get(name, 0) - others_before.get(name, 0)
        everybody = 1 + self.others_present()
        padding = 1 + (own + others) / 20
        return (own + padding) / (own + others + everybody * padding)

    def forget_minute(self) -> None:
        """Share by what is admitted from now on: what was heard so far is of another time."""
        self._minute.clear()

    def _remember_minute(self, now: float) -> None:
        if self._minute and now - self._minute[-1][0] < STEP_SECONDS:
            return
        own = {name: account.confirmed for name, account in self._accounts.items()}
        self._minute.append((now, own, dict(self._others)))
        if len(self._minute) > MINUTE_STEPS:
            self._minute.popleft()


def _told(account: Account, bucket: UsageBucket | None) -> UsageTotal:
    network_id, realm = account.name
    return UsageTotal(network_id=network_id, realm=realm, total=account.total, bucket=bucket)


def _from_left(accounts: deque[Account], count: int) -> Iterable[Account]:
    return [accounts.popleft() for _ in range(count)]
