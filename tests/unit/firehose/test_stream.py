"""Protects the framing, the compression, and how a stream meets its end."""

import asyncio
import gzip
import json

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.firehose.domain import Filter
from services.firehose.framing import (
    NdjsonFraming,
    SseFraming,
    compression_of,
    end,
    framing_of,
    heartbeat,
)
from services.firehose.stream import Pace, Stream
from shared.clock import SystemClock
from shared.errors import UnavailableError
from shared.tail import Batch, PositionGoneError, TailRecord

VALUE = b'{\r\n"a": 1,\n\n"b": "x"}'
PACE = Pace(batch_records_max=10, heartbeat_seconds=60, stall_seconds=0.05)


@pytest.mark.parametrize("framing", [SseFraming(), NdjsonFraming()])
def test_a_raw_line_end_cannot_break_a_frame(framing):
    """JSON allows it between tokens; a frame must stay one."""
    frame = framing.event("clicks", "c1", VALUE)
    if isinstance(framing, NdjsonFraming):
        assert frame.count(b"\n") == 1
        assert json.loads(frame) == {"id": "c1", "type": "click", "data": json.loads(VALUE)}
    else:
        head, event, data, *rest = frame.split(b"\n")
        assert (head, event, rest) == (b"id: c1", b"event: click", [b"", b""])
        assert json.loads(data.removeprefix(b"data: ")) == json.loads(VALUE)
        assert b"\r" not in frame


def test_notes_carry_the_cursor():
    """Whoever reads nothing but heartbeats and ends still knows where to go on."""
    framing = framing_of("ndjson")
    assert json.loads(heartbeat(framing, "c1")) == {
        "id": "c1",
        "type": "heartbeat",
        "data": {"cursor": "c1"},
    }
    assert json.loads(end(framing, "c1", "revoked"))["data"] == {
        "reason": "revoked",
        "cursor": "c1",
    }


@given(st.lists(st.binary(max_size=2_000), max_size=10), st.sampled_from(["gzip", "zstd"]))
def test_compression_gives_back_what_went_in(pieces, coding):
    """Piece by piece, and whole at the end."""
    compression = compression_of(coding)
    data = b"".join(compression.piece(piece) for piece in pieces) + compression.finish()
    decompress = gzip.decompress if coding == "gzip" else cramjam.zstd.decompress
    assert bytes(decompress(data)) == b"".join(pieces)


class Reader:
    """Gives out what a test prepared; raises what is an error; then waits for an interruption."""

    def __init__(self, *results) -> None:
        self.cursor = "c0"
        self._results = list(results)
        self._interrupted = asyncio.Event()

    async def read(self, *, records_max, wait_seconds):
        if not self._results:
            await self._interrupted.wait()
            return Batch([], self.cursor)
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def interrupt(self) -> None:
        self._interrupted.set()


class Client:
    """An ASGI `send`: takes bodies while it is not deaf."""

    def __init__(self, deaf_after: bytes | None = None) -> None:
        self.body = b""
        self._deaf_after = deaf_after
        self.is_whole = False
        self.is_broken = False
        self.hears = asyncio.Event()
        self.hears.set()

    async def send(self, message) -> None:
        await self.hears.wait()
        self.body += message["body"]
        self.is_whole = not message["more_body"]
        if self._deaf_after is not None and self._deaf_after in self.body:
            self._deaf_after = None
            self.hears.clear()

    def abort(self) -> None:
        self.is_broken = True

    @property
    def messages(self) -> list[dict]:
        return [json.loads(line) for line in self.body.splitlines()]


def _count_nothing(_name: str, _count: int) -> None:
    """Metrics are not what these tests are about."""


def _stream(reader: Reader, client: Client, pace: Pace = PACE) -> Stream:
    return Stream(
        reader,
        client.send,
        client.abort,
        framing=framing_of("ndjson"),
        compression=compression_of("identity"),
        wanted=Filter(),
        pace=pace,
        clock=SystemClock(),
        on_sent=_count_nothing,
    )


def _batch(*numbers: int) -> Batch:
    records = [TailRecord("clicks", b"%d" % number, number, 0, f"c{number}") for number in numbers]
    return Batch(records, f"c{numbers[-1]}")


async def test_the_end_names_the_cursor_behind_the_last_event():
    """What was written, and nothing else, is behind it."""
    client = Client()
    stream = _stream(Reader(_batch(1, 2), _batch(3)), client)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(stream.run())
        while b"c3" not in client.body:
            await asyncio.sleep(0)
        stream.end("revoked")
        stream.end("draining")
    assert [item["type"] for item in client.messages] == ["heartbeat", *["click"] * 3, "end"]
    assert client.messages[-1]["data"] == {"reason": "revoked", "cursor": "c3"}
    assert (stream.reason, stream.events, stream.cursor) == ("revoked", 3, "c3")
    assert client.is_whole
    assert not client.is_broken


async def test_a_client_that_hears_again_in_time_is_told_why():
    """What it did not take is not behind the cursor it is told."""
    client = Client(deaf_after=b"c1")
    stream = _stream(Reader(_batch(1), _batch(2)), client)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(stream.run())
        while stream.reason is None:
            await asyncio.sleep(0.001)
        client.hears.set()
    assert client.messages[-1]["data"]["reason"] == "slow"
    assert client.messages[-1]["data"]["cursor"] == stream.cursor == "c1"
    assert [item["data"] for item in client.messages if item["type"] == "click"] == [1]


async def test_a_deaf_client_is_broken_off():
    """An end that nobody takes does not keep a connection."""
    client = Client()
    client.hears.clear()
    stream = _stream(Reader(_batch(1)), client)
    async with asyncio.timeout(30):
        await stream.run()
    assert client.is_broken
    assert (stream.reason, stream.events, stream.cursor) == ("slow", 0, "c0")


async def test_an_end_does_not_wait_for_a_deaf_client_to_stall():
    """A revoked key's stream is gone within a second, whatever its client does."""
    client = Client()
    stream = _stream(Reader(_batch(1)), client, Pace(10, 60, 3_600))
    client.hears.clear()
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(stream.run())
        await asyncio.sleep(0)
        stream.end("revoked")
    assert (stream.reason, stream.events) == ("revoked", 0)
    assert client.is_broken


@pytest.mark.parametrize(
    ("error", "reason", "cursor"),
    [
        (PositionGoneError("gone", "oldest"), "gone", "oldest"),
        (UnavailableError("Kafka"), "unavailable", "c1"),
    ],
)
async def test_failures_of_the_log_end_a_stream_with_their_name(error, reason, cursor):
    """A client is never left with a stream that just stops."""
    client = Client()
    stream = _stream(Reader(_batch(1), error), client)
    async with asyncio.timeout(30):
        await stream.run()
    assert client.messages[-1]["data"] == {"reason": reason, "cursor": cursor}
    assert client.is_whole
