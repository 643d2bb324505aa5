"""Which of the stored records a poll tells, as what, and where the next poll goes on; pure.

A record is told if no record before it in the log has the same id and version: redelivered records
have the same place, republished ones a later one. What it changes is decided by the records before
it alone. So what is told of a place never depends on who asks, when, or from where on.

Where it ends: two records with one id and version are taken to say the same.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from services.reporting.scope import Scope
from shared.cursor import sealed, unsealed
from shared.errors import InvalidError

LIMIT_DEFAULT: Final = 500
LIMIT_MAX: Final = 2_000
GRACE_DAYS: Final = 1
"""How much older a cursor may be, so that one who has just begun can go on."""
DAY_MS: Final = 86_400_000

COUNTED: Final = "approved"
"""The status in which a conversion earns, unless it is scrubbed."""

_CURSOR: Final = struct.Struct(">BQQ16sQQ")
_CURSOR_VERSION: Final = 2

Kind = Literal["new", "changed", "superseded"]


# --- where a poll goes on -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """A place in a partner's conversions log: it does not depend on where they are stored.

    Attributes:
        scope: whose log.
        topic_id: names the topic; one created anew has another.
        offset: the first record not told yet.
        since_ms: a log time (milliseconds): no record at or behind `offset` was appended before.
            A cursor ages by it, as what it stands before does.
    """

    scope: Scope
    topic_id: bytes
    offset: int
    since_ms: int

    def encode(self) -> str:
        """The text, which `decode` reads back."""
        return sealed(
            _CURSOR.pack(
                _CURSOR_VERSION,
                self.scope.network_id,
                self.scope.network_affiliate_id,
                self.topic_id,
                self.offset,
                self.since_ms,
            )
        )

    @classmethod
    def decode(cls, text: str) -> "FeedCursor":
        """The cursor in `text`.

        Raises:
            InvalidError: it is no cursor of the feed, or was damaged on the way.
        """
        raw = unsealed(text, _CURSOR_VERSION)
        try:
            _, network, partner, topic_id, offset, since_ms = _CURSOR.unpack(raw[:-4])
        except struct.error as error:
            raise InvalidError("cursor: not one that this endpoint gave out") from error
        return cls(Scope(network, partner), topic_id, offset, since_ms)

    def is_servable(self, topic_id: bytes, *, now_ms: int, kept_days: int) -> bool:
        """Whether everything behind it is still there.

        Args:
            topic_id: of the topic as it is now.
            now_ms: the time, in milliseconds.
            kept_days: whoever begins is told the changes of so many days.
        """
        oldest_ms = now_ms - (kept_days + GRACE_DAYS) * DAY_MS
        return self.topic_id == topic_id and self.since_ms >= oldest_ms


@dataclass(frozen=True, slots=True)
class Poll:
    """What a request asks for; without a cursor, from the oldest change on."""

    cursor: FeedCursor | None
    limit: int


def read_poll(scope: Scope, parameters: Mapping[str, str]) -> Poll:
    """The poll that a query string asks for.

    Raises:
        InvalidError: the limit is no number; the cursor is damaged or another partner's.
    """
    text = parameters.get("cursor")
    cursor = FeedCursor.decode(text) if text else None
    if cursor is not None and cursor.scope != scope:
        raise InvalidError("cursor: it belongs to another partner; use the one you were given")
    return Poll(cursor, _limit(parameters.get("limit")))


def _limit(text: str | None) -> int:
    try:
        wanted = int(text or 0) or LIMIT_DEFAULT
    except ValueError as error:
        raise InvalidError(f"limit: use a whole number from 1 to {LIMIT_MAX}") from error
    return min(wanted, LIMIT_MAX) if wanted > 0 else LIMIT_MAX


# --- what is told ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """What decides about one record.

    Attributes:
        offset: its place.
        conversion_id: of which conversion.
        version: its version.
        status: its status.
        is_scrub: whether the network has scrubbed it.
        hold: end and status of the holding period; 0 and empty if it was never held.
        revenue: what the partner earns.
        sale_amount: what the customer paid.
    """

    offset: int
    conversion_id: str
    version: int
    status: str
    is_scrub: bool
    hold: tuple[int, str]
    revenue: Decimal
    sale_amount: Decimal

    @property
    def is_counted(self) -> bool:
        """Whether the conversion earns as it stands here, as reports count it."""
        return self.status == COUNTED and not self.is_scrub


@dataclass(frozen=True, slots=True)
class Change:
    """One change to be told.

    Attributes:
        seen: the record.
        kind: `new` for the first version in the log, `changed` for a higher one than all before,
            `superseded` for a lower one that came late: a copy keeps what it has.
        changed: what differs from the highest version before: `status`, `amount`, `hold`, `scrub`;
            empty if it is something else.
    """

    seen: Seen
    kind: Kind
    changed: tuple[str, ...]


def told(candidates: Sequence[Seen], history: Iterable[Seen]) -> list[Change]:
    """The changes among `candidates`, which are in the order of the log.

    Args:
        candidates: records that follow one another.
        history: all records of the same conversions up to the last candidate, in any order, the
            candidates themselves and repetitions included or not.
    """
    places = {each.offset for each in candidates}
    records = {each.offset: each for each in (*history, *candidates)}
    versions: dict[str, set[int]] = defaultdict(set)
    highest: dict[str, Seen] = {}
    changes: list[Change] = []
    for offset in sorted(records):
        seen = records[offset]
        known, before = versions[seen.conversion_id], highest.get(seen.conversion_id)
        if seen.version in known:
            continue
        known.add(seen.version)
        if before is None or before.version < seen.version:
            highest[seen.conversion_id] = seen
        if offset in places:
            changes.append(_change(before, seen))
    return changes


def _change(before: Seen | None, seen: Seen) -> Change:
    if before is None:
        return Change(seen, "new", ())
    if before.version > seen.version:
        return Change(seen, "superseded", ())
    return Change(seen, "changed", _differences(before, seen))


def _differences(before: Seen, after: Seen) -> tuple[str, ...]:
    pairs = {
        "status": (before.status, after.status),
        "amount": (
            (before.revenue, before.sale_amount),
            (after.revenue, after.sale_amount),
        ),
        "hold": (before.hold, after.hold),
        "scrub": (before.is_scrub, after.is_scrub),
    }
    return tuple(name for name, (old, new) in pairs.items() if old != new)
