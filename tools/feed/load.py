"""Bringing the good lines of a file to Kafka, and the bad ones to a file beside it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec

from shared.clock import Clock
from shared.errors import SetupError
from shared.events import encode, headers, partner_key
from shared.kafka import Producer, open_consumer, open_producer, partitions_of, translated
from shared.topics import TRACKING
from tools.feed.lines import Bad, Format, Good, Line, read
from tools.tracking import Kind

SOURCE: Final = "portico/feed"
BATCH_LINES_MAX: Final = 2_000

Progress = Callable[[int], None]
"""Told how many bytes of the file are done."""
Complain = Callable[[Bad], None]
"""Told each bad line."""


@dataclass
class FeedReport:
    """What became of a file's lines."""

    loaded: Counter[Kind] = field(default_factory=Counter)
    rejected: int = 0

    @property
    def confirmed(self) -> int:
        """How many events the broker has."""
        return sum(self.loaded.values())


@dataclass(frozen=True, slots=True)
class Feed:
    """One file to load.

    Attributes:
        file: to read.
        written_as: its format.
        kind: what every line is; None where each line tells.
    """

    file: Path
    written_as: Format
    kind: Kind | None = None

    @property
    def rejected_file(self) -> Path:
        """Where its bad lines go; replaced by each run, absent when there are none."""
        return self.file.with_name(self.file.name + ".rejected.ndjson")

    async def load(
        self, bootstrap: str, clock: Clock, *, progress: Progress, complain: Complain
    ) -> FeedReport:
        """Load the file.

        Raises:
            SetupError: it cannot be read, has no header, or Kafka lacks the topics.
            UnavailableError: Kafka does not answer; running it again counts nothing twice.
        """
        self.rejected_file.unlink(missing_ok=True)
        report = FeedReport()
        with _opened(self.file) as source, _Rejects(self.rejected_file, complain) as rejects:
            await _require_topics(bootstrap)
            async with open_producer(bootstrap, client_id="feed", linger_ms=5) as producer:
                lines = read(source, self.written_as, self.kind)
                while batch := list(islice(lines, BATCH_LINES_MAX)):
                    await _send(producer, _good(batch, rejects), clock, report)
                    report.rejected = rejects.count
                    progress(source.tell())
        return report


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {error.strerror}.") from error


async def _require_topics(bootstrap: str) -> None:
    async with open_consumer(bootstrap, client_id="feed") as consumer:
        await partitions_of(consumer, [topic.name for topic in TRACKING.values()])


class _Rejects:
    """The file of bad lines, made when the first one comes."""

    def __init__(self, file: Path, complain: Complain) -> None:
        self.count = 0
        self._file = file
        self._complain = complain
        self._open = ExitStack()
        self._out: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, line: Bad) -> None:
        """Write the line aside and report it."""
        if self._out is None:
            self._out = self._open.enter_context(self._file.open("wb"))
        told: dict[str, Any] = {"line": line.number, "reason": line.reason}
        self._out.write(msgspec.json.encode(told | {"original": line.original}) + b"\n")
        self.count += 1
        self._complain(line)


def _good(lines: list[Line], rejects: _Rejects) -> Iterator[Good]:
    for line in lines:
        if isinstance(line, Bad):
            rejects.add(line)
        else:
            yield line


async def _send(
    producer: Producer, lines: Iterator[Good], clock: Clock, report: FeedReport
) -> None:
    """Send lines and wait until the broker has them."""
    waiting = []
    with translated("loading the file"):
        for line in lines:
            event, topic = line.event, TRACKING[line.kind]
            waiting.append(
                await producer.send(
                    topic.name,
                    encode(event),
                    key=partner_key(event.network_id, event.network_affiliate_id).encode(),
                    headers=headers(event, source=SOURCE, occurred_at=clock.time()),
                )
            )
            report.loaded[line.kind] += 1
        if waiting:
            await asyncio.wait(waiting)
        for one in waiting:
            one.result()
