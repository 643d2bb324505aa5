"""Acts about streams and about the end of a key: what is cut goes on, what is revoked stops."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from shared.clock import rfc3339
from tools import sse
from tools.demo.record import StepError, check, until
from tools.demo.stage import Key, Stage

STREAM: Final = "/v1/firehose/stream"
TYPES: Final = {"click": "clicks", "impression": "impressions", "conversion": "conversions"}
CUTS: Final = 3
BURSTS: Final = 4
BURST_VISITS: Final = 600
STREAM_SECONDS: Final = 60.0
REVOCATIONS: Final = 20
WATCHED: Final = 3
"""How many of the revoked keys also hold a stream open."""
REFUSED: Final = "Unable to authenticate request"
SETTLING_SECONDS: Final = 0.002


@dataclass
class _Reader:
    """A partner's program: reads, is cut, comes back with the last id it has."""

    stage: Stage
    key: Key
    since: str
    cursor: str = ""
    seen: dict[str, list[tuple[str, int]]] = field(
        default_factory=lambda: {kind: [] for kind in TYPES.values()}
    )
    cursors: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many events it has."""
        return sum(map(len, self.seen.values()))

    async def read(self, upto: int) -> None:
        """Read until it has `upto` events, then let go of the connection."""
        params = {"types": ",".join(TYPES.values())}
        headers = self.key.headers | {"Accept": "text/event-stream"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        else:
            params["since"] = self.since
        async with aclosing(opened(self.stage, headers, params)) as events:
            async for message in events:
                if message.event in TYPES:
                    self._take(message)
                if self.count >= upto:
                    return
        raise StepError(f"the stream ended after {self.count} of {upto} events")

    def _take(self, message: sse.Message) -> None:
        row = msgspec.json.decode(message.data)
        self.cursor = message.id
        self.cursors.append(message.id)
        identity = row.get("conversion_id", row["transaction_id"])
        self.seen[TYPES[message.event]].append((identity, row.get("version", 1)))


async def opened(
    stage: Stage, headers: dict[str, str], params: dict[str, str]
) -> AsyncGenerator[sse.Message, None]:
    """The messages of one connection; a full house (429, 503) is asked again.

    Raises:
        StepError: refused for another reason.
    """
    while True:
        async with stage.firehose.stream("GET", STREAM, headers=headers, params=params) as answer:
            if answer.is_success:
                async for message in sse.messages(answer.aiter_lines()):
                    yield message
                return
            await answer.aread()
            again = (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)
            check(answer.status_code in again, f"stream: {answer.status_code} {answer.text}")
        await stage.clock.sleep(0.2)


async def firehose_resumes(stage: Stage) -> str:
    """Cut three times while events arrive: every event once, in the ledger's order."""
    key = stage.key("first")
    paused = (await stage.simulator.post("/pause")).json()
    await stage.clock.sleep(SETTLING_SECONDS)
    known = (await stage.truth("events", **key.owner, rows_max=50_000))["events"]
    since = rfc3339(paused["now"] + SETTLING_SECONDS)
    reader = _Reader(stage, key, since)
    async with asyncio.TaskGroup() as group:
        group.create_task(_bursts(stage, key))
        async with asyncio.timeout(STREAM_SECONDS):
            for cut in range(1, CUTS + 1):
                await reader.read(cut * BURSTS * BURST_VISITS // (CUTS + 2))
    await stage.simulator.post("/pause")
    after = {"after": known[-1]["sequence"], "rows_max": 50_000}
    sent = (await stage.truth("events", **key.owner, **after))["events"]
    async with asyncio.timeout(STREAM_SECONDS):
        await reader.read(len(sent))
    await stage.simulator.post("/resume")
    return _judged(stage, reader, sent)


async def _bursts(stage: Stage, key: Key) -> None:
    """Traffic in several waves, so that cuts fall into replay and into live delivery."""
    for _ in range(BURSTS):
        pushed = {"network_affiliate_id": key.partner_id, "visits": BURST_VISITS}
        answer = await stage.simulator.post("/burst", params=pushed)
        check(answer.is_success, f"burst: {answer.text}")


def _judged(stage: Stage, reader: _Reader, sent: list[dict[str, Any]]) -> str:
    figures = stage.record.figures
    wanted: dict[str, list[tuple[str, int]]] = {kind: [] for kind in TYPES.values()}
    for row in sent:
        wanted[row["kind"]].append((row["id"], row["version"]))
    lost = repeated = 0
    for kind, expected in wanted.items():
        lost += (Counter(expected) - Counter(reader.seen[kind])).total()
        repeated += (Counter(reader.seen[kind]) - Counter(expected)).total()
    repeated = max(repeated, len(reader.cursors) - len(set(reader.cursors)))
    figures.firehose_events = reader.count
    figures.firehose_lost, figures.firehose_repeated = lost, repeated
    check(not lost and not repeated, f"{lost} lost, {repeated} repeated")
    check(reader.seen == wanted, "the order within a type differs from the ledger's")
    return f"{reader.count} events over {CUTS} cuts: none lost, none repeated, order kept"


@dataclass
class _Ending:
    """How one revocation went, in seconds after the answer to the call."""

    refused: float
    closed: float | None
    reason: str


async def revocation(stage: Stage) -> str:
    """Twenty keys: soon after the call returned, requests are refused and streams end."""
    partner = stage.key("second").partner_id
    endings = [await _revoked(stage, partner, number) for number in range(REVOCATIONS)]
    refused = sorted(ending.refused for ending in endings)
    p99 = refused[math.ceil(0.99 * len(refused)) - 1] * 1_000
    stage.record.figures.revocation_p99_ms = round(p99, 1)
    closed = [ending.closed for ending in endings if ending.closed is not None]
    check(len(closed) == WATCHED, f"{len(closed)} of {WATCHED} streams ended")
    reasons = {ending.reason for ending in endings} - {""}
    middle = refused[len(refused) // 2] * 1_000
    return (
        f"REST refused after p50 {middle:.0f} ms, p99 {p99:.0f} ms over {REVOCATIONS} keys; "
        f"open streams closed after at most {max(closed) * 1_000:.0f} ms, reason {sorted(reasons)}"
    )


async def _revoked(stage: Stage, partner: int, number: int) -> _Ending:
    key = await stage.issue(partner, f"demo-revoked-{number}")
    watched = await _Watch.begun(stage, key) if number < WATCHED else None
    path = f"/v1/networks/apikeys/{key.key_id}/revoke"
    answer = await stage.staff("POST", path, {"reason": "the demo ends it"})
    began = stage.clock.monotonic()
    check(answer.status_code in (httpx.codes.OK, httpx.codes.ACCEPTED), f"revoke: {answer.text}")

    async def refused() -> httpx.Response | None:
        tried = await stage.ask(key)
        return None if tried.is_success else tried

    tried = await until(stage.clock, "a revoked key to be refused", refused, 10, pause=0.001)
    seconds = stage.clock.monotonic() - began
    told = f"{tried.status_code} {tried.text}"
    check(tried.status_code == httpx.codes.UNAUTHORIZED, told)
    check(tried.json()["error"] == REFUSED, told)
    check((await stage.ask(key)).status_code == tried.status_code, "a revoked key works again")
    if watched is None:
        return _Ending(seconds, None, "")
    reason = await watched.end()
    return _Ending(seconds, watched.ended_at - began, reason)


class _Watch:
    """An open stream whose end is awaited."""

    def __init__(self, stage: Stage, held: AsyncExitStack, answer: httpx.Response) -> None:
        self._clock = stage.clock
        self._held = held
        self._answer = answer
        self.ended_at = 0.0

    @classmethod
    async def begun(cls, stage: Stage, key: Key) -> "_Watch":
        """Open a stream; the firehose learns of a new key on its own, so it is asked again."""
        headers = key.headers | {"Accept": "text/event-stream"}
        params = {"types": "clicks"}

        async def tried() -> "_Watch | None":
            async with AsyncExitStack() as held:
                answer = await held.enter_async_context(
                    stage.firehose.stream("GET", STREAM, headers=headers, params=params)
                )
                return cls(stage, held.pop_all(), answer) if answer.is_success else None

        return await until(stage.clock, "a stream with a new key", tried, pause=0.02)

    async def end(self) -> str:
        """Wait for the stream's end; its reason."""
        reason = ""
        async with self._held, asyncio.timeout(10):
            async for message in sse.messages(self._answer.aiter_lines()):
                if message.event == "end":
                    reason = msgspec.json.decode(message.data)["reason"]
            self.ended_at = self._clock.monotonic()
        return reason
