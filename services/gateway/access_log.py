"""A line of JSON for each request, written beside the requests' way, never on it.

A request leaves an entry in memory; a task has a thread write what has gathered, four times a
second. The file is opened anew each time, so that it may be moved or cut off whenever somebody
likes. What is held is bounded: while a disk is slow or full, entries are dropped and counted. A
crash loses the last quarter of a second; a stop loses nothing.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from services.gateway.complaints import Complaints
from shared.clock import Clock, rfc3339

log = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 0.25
ENTRIES_MAX: Final = 50_000
"""Entries held (some 20 MB)."""
STANDARD_OUTPUT: Final = "-"


class Entry(msgspec.Struct, frozen=True):
    """One request. Like the summaries it has no path: that may hold a secret.

    Attributes:
        ended_at: seconds, UTC.
        request_id: as in the answer's `X-Request-Id`.
        method: HTTP method; empty if the request could not be read.
        endpoint: the template of its path.
        status: of the answer; 499 if the client left before it.
        seconds: until the head of the answer.
        network_id: the caller's network; 0 if the caller is not known, as below.
        network_affiliate_id: the partner.
        key: the key as people may see it.
        client_ip: where it came from.
        refusal: why it went no further; empty if it did.
    """

    ended_at: float
    request_id: str
    method: str
    endpoint: str
    status: int
    seconds: float
    network_id: int
    network_affiliate_id: int
    key: str
    client_ip: str
    refusal: str


class AccessLog:
    """Writes entries to a file.

    Args:
        path: of the file; `-` for standard output.
        clock: the time.
        entries_max: how many are held at most.

    Attributes:
        written: how many entries were written since the process began.
        dropped: how many were not, since too many were held or the file took none.
    """

    def __init__(self, path: str, clock: Clock, *, entries_max: int = ENTRIES_MAX) -> None:
        self.written = 0
        self.dropped = 0
        self._path = path
        self._clock = clock
        self._entries_max = entries_max
        self._entries: list[Entry] = []
        self._complaints = Complaints()

    def add(self, entry: Entry) -> None:
        """Have `entry` written soon."""
        if len(self._entries) < self._entries_max:
            self._entries.append(entry)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Write for ever; at the end what is left."""
        try:
            while True:
                await self._clock.sleep(FLUSH_SECONDS)
                if self._entries:
                    await self.flush()
        finally:
            await self.flush()

    async def flush(self) -> None:
        """Write what has gathered."""
        entries, self._entries = self._entries, []
        try:
            await asyncio.to_thread(_write, self._path, entries)
        except OSError as error:
            self.dropped += len(entries)
            times = self._complaints.due("write", self._clock.monotonic())
            if times:
                fields = {"path": self._path, "reason": str(error), "times": times}
                log.warning("access log is not written; free its disk", extra=fields)
        else:
            self.written += len(entries)


def _write(path: str, entries: Sequence[Entry]) -> None:
    """Append the lines; the disk is waited for here, in a thread."""
    text = b"".join(map(line, entries))
    if path == STANDARD_OUTPUT:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    elif text:
        with Path(path).open("ab") as out:
            out.write(text)


def line(entry: Entry) -> bytes:
    """An entry as a line of JSON, `time` first."""
    fields = msgspec.structs.asdict(entry)
    ended_at = fields.pop("ended_at")
    fields["seconds"] = round(entry.seconds, 6)
    return msgspec.json.encode({"time": rfc3339(ended_at)} | fields) + b"\n"
