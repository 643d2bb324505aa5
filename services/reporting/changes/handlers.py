"""What a poll of the change feed does: find the place, read a page, tell its changes.

How far the log is stored is asked before the page is read, and nothing behind it is told. So a poll
never passes over a record that is on its way: not while an insert of several parts is half visible,
and not while what a power cut took is replayed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.reporting.asking.answers import Answer
from services.reporting.changes.domain import (
    DAY_MS,
    Change,
    FeedCursor,
    read_poll,
    told,
)
from services.reporting.changes.store import ChangeStore, Logged, LogPage
from services.reporting.scope import Scope
from shared.clock import Clock
from shared.errors import GoneError


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far the conversions log of a partner is stored.

    Attributes:
        topic_id: names the topic for as long as it exists.
        offset: every record before it is stored.
        through_ms: log time (milliseconds) up to which every record is.
    """

    topic_id: bytes
    offset: int
    through_ms: int


@dataclass(frozen=True, slots=True)
class Changes:
    """The handler, with what it needs.

    Attributes:
        store: the log.
        horizon: how far it is stored.
        clock: the time.
        kept_days: of so many days changes are told; rows must be kept two days longer, so that
            who has just begun can go on.
    """

    store: ChangeStore
    horizon: Callable[[Scope], Horizon]
    clock: Clock
    kept_days: int

    async def poll(self, scope: Scope, parameters: Mapping[str, str]) -> Answer:
        """`GET /v1/affiliates/reporting/changes`.

        Raises:
            InvalidError: the cursor or the limit is wrong.
            GoneError: what follows the cursor is not kept any more.
            UnavailableError: ClickHouse does not answer in time, or partitions change hands.
        """
        wanted = read_poll(scope, parameters)
        horizon = self.horizon(scope)
        start = wanted.cursor or await self._oldest(scope, horizon)
        if not start.is_servable(horizon.topic_id, now_ms=self._now_ms(), kept_days=self.kept_days):
            raise GoneError(
                f"cursor: what follows it is not kept any more ({self.kept_days} days are); go on"
                " with `oldest`, and take a copy made so far as lost",
                oldest=(await self._oldest(scope, horizon)).encode(),
            )
        page = await self.store.page(scope, start.offset, horizon.offset, wanted.limit)
        follower = _behind(page, start, horizon)
        body = {
            "changes": _told(page),
            "paging": {
                "next_cursor": follower.encode(),
                "has_more": page.next_offset is not None,
            },
        }
        return Answer(body, follower.since_ms / 1000)

    async def _oldest(self, scope: Scope, horizon: Horizon) -> FeedCursor:
        """Before everything that is kept; at the end if nothing is."""
        kept_since = max(0, self._now_ms() - self.kept_days * DAY_MS)
        found = await self.store.oldest(scope, until=horizon.offset, appended_ms=kept_since)
        offset, appended_ms = found or (horizon.offset, horizon.through_ms)
        return FeedCursor(scope, horizon.topic_id, offset, appended_ms)

    def _now_ms(self) -> int:
        return int(self.clock.time() * 1000)


def _behind(page: LogPage, start: FeedCursor, horizon: Horizon) -> FeedCursor:
    """Where to go on after `page`; never before `start`."""
    if page.next_offset is None:
        offset, since_ms = horizon.offset, horizon.through_ms
    else:
        offset, since_ms = page.next_offset, page.records[-1].appended_ms - 1
    if offset < start.offset:
        return start
    return FeedCursor(start.scope, start.topic_id, offset, max(start.since_ms, since_ms))


def _told(page: LogPage) -> list[dict[str, Any]]:
    logged = {record.seen.offset: record for record in page.records}
    changes = told([record.seen for record in page.records], page.history)
    return [_change(change, logged[change.seen.offset]) for change in changes]


def _change(change: Change, logged: Logged) -> dict[str, Any]:
    seen = change.seen
    end, status = seen.hold
    hold = {
        "on_hold_conversion_id": logged.hold_id,
        "holding_period_end": end,
        "status": status,
    }
    return {
        "conversion_id": seen.conversion_id,
        "version": seen.version,
        "kind": change.kind,
        "changed": list(change.changed),
        "status": seen.status,
        "is_scrub": seen.is_scrub,
        "is_counted": seen.is_counted,
        "hold": hold if logged.hold_id else None,
        "unix_timestamp": logged.appended_ms // 1000,
        "conversion": logged.row,
    }
