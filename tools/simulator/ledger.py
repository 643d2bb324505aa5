"""The book of what was sent, written before it is sent: one SQLite file.

A record enters as *planned* (due later), becomes *sent* when its time comes, in the same
transaction in which its bytes are queued, and leaves the queue once the broker has confirmed it.
So after a crash at any moment the book names every record that may be on the log, and what is
still queued is sent again: the same ids and bytes, which readers count once.

Amounts are whole millionths, so that sums are exact. The file survives the death of the process;
a power cut may cost its last moments, as it may cost Kafka's.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from shared.errors import SetupError
from shared.events import Click, Conversion, Tracked, decode, encode, partner_key
from tools.simulator.cast import micros
from tools.simulator.traffic import Item
from tools.tracking import EVENTS, Kind, kind_of

LAYOUT: Final = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS planned (
    entered INTEGER PRIMARY KEY,
    due_at REAL NOT NULL,
    kind TEXT NOT NULL,
    is_copy INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS planned_by_due ON planned (due_at);
CREATE TABLE IF NOT EXISTS sent (
    sequence INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,
    is_copy INTEGER NOT NULL,
    network_id INTEGER NOT NULL,
    network_affiliate_id INTEGER NOT NULL,
    network_offer_id INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    revenue INTEGER NOT NULL,
    is_unique INTEGER NOT NULL,
    error_code INTEGER NOT NULL,
    status TEXT NOT NULL,
    is_event INTEGER NOT NULL,
    is_view_through INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS sent_by_partner ON sent (network_id, network_affiliate_id, sequence);
CREATE TABLE IF NOT EXISTS queue (
    sequence INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    record_key TEXT NOT NULL,
    value BLOB NOT NULL
);
"""

TOTALS: Final = """
WITH chosen AS (
    SELECT *, max(version) OVER (PARTITION BY kind, id) AS newest FROM sent
    WHERE network_id = :network_id AND network_affiliate_id = :network_affiliate_id
      AND occurred_at >= :start AND occurred_at < :end AND is_copy = 0
)
SELECT network_offer_id, occurred_at / 86400, kind, status, is_unique, error_code <> 0, is_event,
       is_view_through, count(*), sum(revenue)
FROM chosen WHERE version = newest GROUP BY 1, 2, 3, 4, 5, 6, 7, 8 ORDER BY 1
"""
"""What a report should show: each id once, a conversion as it is at its highest version."""

ENTRIES: Final = """
SELECT sequence, kind, id, version, is_copy, network_offer_id, occurred_at, status, is_event,
       is_view_through, revenue
FROM sent
WHERE network_id = :network_id AND network_affiliate_id = :network_affiliate_id
  AND sequence > :after AND occurred_at >= :start AND occurred_at < :end
ORDER BY sequence LIMIT :rows_max
"""
"""A partner's records in the order in which they were sent, repeats included."""

BATCH_RECORDS_MAX: Final = 1_000

ENTER_SENT: Final = """
INSERT INTO sent (sequence, kind, id, version, is_copy, network_id, network_affiliate_id,
    network_offer_id, occurred_at, revenue, is_unique, error_code, status, is_event,
    is_view_through)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


@dataclass(frozen=True, slots=True)
class Queued:
    """One record that the broker has not confirmed yet."""

    sequence: int
    kind: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Line:
    """Records of one offer and day (since the epoch, UTC) that count alike."""

    network_offer_id: int
    day: int
    kind: str
    status: str
    is_unique: bool
    is_refused: bool
    is_event: bool
    is_view_through: bool
    records: int
    revenue_micros: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One record that was sent; `sequence` grows in the order of sending."""

    sequence: int
    kind: str
    id: str
    version: int
    is_copy: bool
    network_offer_id: int
    occurred_at: int
    status: str
    is_event: bool
    is_view_through: bool
    revenue_micros: int


class Ledger:
    """The open book; one process at a time, one thread at a time."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(LAYOUT)
        self.begun_at = 0
        """As `born` returned it."""

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def born(self, seed: int, now: float) -> int:
        """When this book was begun (seconds, UTC): `now` if that is at this moment.

        Raises:
            SetupError: it was begun with another seed.
        """
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('seed', ?)", (seed,))
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('born_at', ?)", (int(now),))
        if self._meta("seed") != seed:
            raise SetupError(
                f"The simulator's ledger belongs to seed {self._meta('seed')}: set SIMULATOR_SEED "
                "to that, or forget the data with `make reset`."
            )
        self.begun_at = self._meta("born_at")
        return self.begun_at

    @property
    def stories(self) -> int:
        """The number that the next story gets; 0 as long as there is no history."""
        return self._meta("stories")

    def enter(self, items: Iterable[Item], now: float, *, stories: int) -> None:
        """Write down what happens, all or nothing: due items as sent, the others as planned.

        Args:
            items: in the order in which they shall be sent.
            now: seconds, UTC.
            stories: the number for the next story, from now on.
        """
        source = iter(items)
        with self._transaction():
            while batch := list(islice(source, BATCH_RECORDS_MAX)):
                due = [item for item in batch if item.due_at <= now]
                self._send([(item.event, encode(item.event), item.is_copy) for item in due])
                self._plan([item for item in batch if item.due_at > now])
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('stories', ?)", (stories,))

    def release(self, now: float, records_max: int) -> int:
        """Turn planned records that are due into sent ones; how many."""
        with self._transaction():
            rows = self._db.execute(
                "SELECT entered, kind, is_copy, value FROM planned WHERE due_at <= ? "
                "ORDER BY due_at, entered LIMIT ?",
                (now, records_max),
            ).fetchall()
            self._send([(_decoded(kind, value), value, copy) for _, kind, copy, value in rows])
            self._db.executemany(
                "DELETE FROM planned WHERE entered = ?", [(entered,) for entered, *_ in rows]
            )
        return len(rows)

    def queued(self, records_max: int, after: int = 0) -> list[Queued]:
        """The unconfirmed records after sequence `after`, in order."""
        rows = self._db.execute(
            "SELECT sequence, kind, record_key, value FROM queue WHERE sequence > ? "
            "ORDER BY sequence LIMIT ?",
            (after, records_max),
        )
        return [Queued(*row) for row in rows]

    def confirm(self, upto: int) -> None:
        """The broker has every queued record up to sequence `upto`."""
        with self._transaction():
            self._db.execute("DELETE FROM queue WHERE sequence <= ?", (upto,))

    def waiting(self) -> int:
        """How many records the broker has not confirmed."""
        return self._number("SELECT count(*) FROM queue")

    def planned(self) -> int:
        """How many records are due later."""
        return self._number("SELECT count(*) FROM planned")

    def sent(self) -> dict[str, int]:
        """How many records were sent, by kind."""
        rows = self._db.execute("SELECT kind, count(*) FROM sent GROUP BY kind")
        return dict(rows)

    def totals(
        self, network_id: int, network_affiliate_id: int, start: float, end: float
    ) -> list[Line]:
        """What a partner's reports over event times within [start, end) should add up to."""
        asked = {
            "network_id": network_id,
            "network_affiliate_id": network_affiliate_id,
            "start": start,
            "end": end,
        }
        return [_line(row) for row in self._db.execute(TOTALS, asked)]

    def entries(
        self,
        network_id: int,
        network_affiliate_id: int,
        *,
        after: int = 0,
        start: float = 0,
        end: float = 2**40,
        rows_max: int = 10_000,
    ) -> list[Entry]:
        """A partner's records after sequence `after`, in the order in which they were sent."""
        asked = {
            "network_id": network_id,
            "network_affiliate_id": network_affiliate_id,
            "after": after,
            "start": start,
            "end": end,
            "rows_max": rows_max,
        }
        return [_entry(row) for row in self._db.execute(ENTRIES, asked)]

    def _plan(self, items: Sequence[Item]) -> None:
        self._db.executemany(
            "INSERT INTO planned (due_at, kind, is_copy, value) VALUES (?, ?, ?, ?)",
            [
                (item.due_at, kind_of(item.event), item.is_copy, encode(item.event))
                for item in items
            ],
        )

    def _send(self, records: Sequence[tuple[Tracked, bytes, bool]]) -> None:
        """Note records as sent, and queue their bytes under the same sequences."""
        first = self._number("SELECT max(sequence) FROM sent") + 1
        rows = [
            (first + index, *_row(event, is_copy=is_copy))
            for index, (event, _, is_copy) in enumerate(records)
        ]
        self._db.executemany(ENTER_SENT, rows)
        queued = [
            (row[0], row[1], partner_key(event.network_id, event.network_affiliate_id), value)
            for row, (event, value, _) in zip(rows, records, strict=True)
        ]
        self._db.executemany("INSERT INTO queue VALUES (?, ?, ?, ?)", queued)

    def _meta(self, name: str) -> int:
        return self._number("SELECT max(value) FROM meta WHERE name = ?", name)

    def _number(self, sql: str, *values: object) -> int:
        return int(self._db.execute(sql, values).fetchone()[0] or 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _decoded(kind: Kind, value: bytes) -> Tracked:
    event: Tracked = decode(EVENTS[kind], value)
    return event


def _row(event: Tracked, *, is_copy: bool) -> tuple[Any, ...]:
    """The event as a row of `sent` behind its sequence; what its kind lacks is 0 or empty."""
    offer = event.relationship.offer.network_offer_id
    owner = (is_copy, event.network_id, event.network_affiliate_id, offer)
    kind, revenue = kind_of(event), micros(event.revenue)
    if isinstance(event, Conversion):
        name = (kind, event.conversion_id, event.version)
        state = (0, 0, event.status, event.is_event, event.is_view_through)
        return (*name, *owner, event.conversion_unix_timestamp, revenue, *state)
    judged = (event.is_unique, event.error_code) if isinstance(event, Click) else (0, 0)
    name = (kind, event.transaction_id, 1)
    return (*name, *owner, event.unix_timestamp, revenue, *judged, "", 0, 0)


def _entry(row: Sequence[Any]) -> Entry:
    sequence, kind, own_id, version, is_copy, offer, at, status, is_event, is_view, revenue = row
    return Entry(
        sequence=sequence,
        kind=kind,
        id=own_id,
        version=version,
        is_copy=bool(is_copy),
        network_offer_id=offer,
        occurred_at=at,
        status=status,
        is_event=bool(is_event),
        is_view_through=bool(is_view),
        revenue_micros=revenue,
    )


def _line(row: Sequence[Any]) -> Line:
    offer, day, kind, status, is_unique, is_refused, is_event, is_view, records, revenue = row
    return Line(
        network_offer_id=offer,
        day=day,
        kind=kind,
        status=status,
        is_unique=bool(is_unique),
        is_refused=bool(is_refused),
        is_event=bool(is_event),
        is_view_through=bool(is_view),
        records=records,
        revenue_micros=revenue,
    )
