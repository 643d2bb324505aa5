"""Protects the firehose through HTTP, with a real Kafka behind it."""

import asyncio
import gzip
import json
import socket
import time
import zlib

import cramjam
import pytest

from shared.cursor import Cursor
from shared.events import SessionClosed, SessionOpened
from shared.kafka import TopicPartition
from shared.partner_key import generate
from tests import tracking
from tests.firehose_parts import (
    KEY,
    STREAM,
    Partner,
    Received,
    Surroundings,
    messages,
    open_firehose,
    open_surroundings,
)
from tests.tail_parts import recreate
from tests.waiting import until

SECONDS = 60
EVENTS = 12_000
"""More than the sockets of one connection hold."""


@pytest.fixture
async def surroundings(kafka_bootstrap):
    async with open_surroundings(kafka_bootstrap) as found:
        yield found


@pytest.fixture
async def partner(surroundings: Surroundings):
    async with open_firehose(surroundings) as found:
        yield found


async def _read(response, received: Received, total: int) -> None:
    """Take messages until there are `total` events."""
    async with asyncio.timeout(SECONDS):
        async for message in messages(response):
            received.take(message)
            if received.total >= total:
                return


async def _end(response) -> dict:
    """The end of a stream."""
    async with asyncio.timeout(SECONDS):
        found = [message async for message in messages(response)]
    assert found[-1].name == "end"
    assert found[-1].id == found[-1].data["cursor"]
    return found[-1].data


async def _begun(response):
    """The first heartbeat: the stream is open, and the cursor known."""
    async with asyncio.timeout(SECONDS):
        return await anext(messages(response))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [("text/event-stream", "text/event-stream"), ("application/x-ndjson", "application/x-ndjson")],
)
async def test_events_arrive_as_the_bytes_they_came_in(
    surroundings: Surroundings, partner: Partner, accept, content_type
):
    """Both formats carry id, name and the original bytes; a raw line end cannot break the frame."""
    pretty = json.dumps(json.loads(tracking.click(1, 1, 7)), indent=2).replace("\n", "\r\n")
    topic = surroundings.tracking["clicks"].name
    async with partner.ask("types=clicks,conversions", Accept=accept) as response:
        assert response.content_type == content_type
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert len(response.headers["X-Request-Id"]) == 32
        first = await _begun(response)
        assert (first.name, first.data) == ("heartbeat", {"cursor": first.id})
        await surroundings.ledger.send(1, "clicks")
        value = tracking.click(1, 1, 1)
        raw = b""
        async with asyncio.timeout(SECONDS):
            while value not in raw:
                raw += await response.content.readany()
        await surroundings.producer.send_and_wait(topic, pretty.encode(), key=b"1:1")
        await surroundings.ledger.send(1, "conversions")
        received = Received()
        async with asyncio.timeout(SECONDS):
            async for message in messages(response):
                received.take(message)
                if message.name == "click":
                    assert message.data == json.loads(pretty)
                if received.total == 2:
                    break
        assert received.numbers == {"clicks": [7], "conversions": [2]}


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_stream_cut_three_times_loses_and_repeats_nothing(
    surroundings: Surroundings, partner: Partner, accept
):
    """Cut in the middle of traffic and resumed by the last id, the events equal the ledger."""

    async def write() -> None:
        for _ in range(40):
            for other in (1, 2):
                await surroundings.ledger.send(other, "clicks", 10)
                await surroundings.ledger.send(other, "conversions", 5)

    received = Received()
    async with asyncio.TaskGroup() as group:
        async with partner.ask("types=clicks,conversions", Accept=accept) as response:
            received.take(await _begun(response))
            group.create_task(write())
            await _read(response, received, 100)
        for total in (250, 400):
            async with partner.ask(Accept=accept, Last_Event_ID=received.cursor) as response:
                await _read(response, received, total)
    async with partner.ask(f"cursor={received.cursor}", Accept=accept) as response:
        await _read(response, received, 600)
    assert received.numbers == surroundings.ledger.of(1)
    assert len(set(received.ids)) == len(received.ids) == 600


async def test_a_stream_begins_where_it_is_told_to(surroundings: Surroundings, partner: Partner):
    """Earliest, latest, a time of the log; `Last-Event-ID` comes before them all."""
    ledger = surroundings.ledger
    await ledger.send(1, "clicks", 10)
    await asyncio.sleep(0.05)  # lets the broker's clock move on, which has milliseconds
    moment = time.time()
    await ledger.send(1, "clicks", 10)
    for query, wanted in (
        ("types=clicks&start=earliest", ledger.numbers[1, "clicks"]),
        (f"types=clicks&since={moment}", ledger.numbers[1, "clicks"][10:]),
    ):
        received = Received()
        async with partner.ask(query) as response:
            await _read(response, received, len(wanted))
        assert received.numbers["clicks"] == wanted
    async with partner.ask("types=clicks&start=latest") as response:
        cursor = (await _begun(response)).id
    await ledger.send(1, "clicks", 5)
    received = Received()
    async with partner.ask("types=clicks&start=earliest", Last_Event_ID=cursor) as response:
        await _read(response, received, 5)
    assert received.numbers["clicks"] == ledger.numbers[1, "clicks"][20:]


async def test_filters_let_through_what_was_asked_for(surroundings: Surroundings, partner: Partner):
    """Offer holds for all types; event and status for conversions, others pass."""

    async def send(name: str, value: bytes) -> None:
        topic = surroundings.tracking[name].name
        await surroundings.producer.send_and_wait(topic, value, key=b"1:1")

    wanted = {
        "offers=8": {"clicks": [2], "conversions": [6]},
        "statuses=pending,rejected": {"clicks": [1, 2], "conversions": [4]},
        "events=Deposit&events=Base&types=conversions": {"clicks": [], "conversions": [3, 4, 5, 6]},
        "events=Deposit&offers=7": {"clicks": [1], "conversions": [5]},
    }
    await send("clicks", tracking.click(1, 1, 1))
    await send("clicks", tracking.click(1, 1, 2, offer_id=8))
    await send("conversions", tracking.conversion(1, 1, 3))
    await send("conversions", tracking.conversion(1, 1, 4, status="pending"))
    await send("conversions", tracking.conversion(1, 1, 5, event="Deposit"))
    await send("conversions", tracking.conversion(1, 1, 6, offer_id=8))
    for query, numbers in wanted.items():
        received = Received()
        async with partner.ask(f"start=earliest&{query}") as response:
            await _read(response, received, sum(map(len, numbers.values())))
        assert received.numbers == numbers, query


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_a_compressed_stream_can_be_read_as_it_comes(
    surroundings: Surroundings, partner: Partner, coding
):
    """Each batch is flushed, so that nothing waits in the compressor; the end is a whole one."""
    inflate = zlib.decompressobj(31)
    raw = b""
    headers = {"Accept_Encoding": coding, "Accept": "application/x-ndjson"}
    async with asyncio.timeout(SECONDS):
        partner.session._auto_decompress = False
        async with partner.ask("types=clicks", **headers) as response:
            assert response.headers["Content-Encoding"] == coding
            raw += await response.content.readany()
            await surroundings.ledger.send(1, "clicks", 100)
            if coding == "gzip":
                text = inflate.decompress(raw)
                while text.count(b"\n") < 101:
                    piece = await response.content.readany()
                    raw, text = raw + piece, text + inflate.decompress(piece)
            partner.stop.set()
            raw += await response.content.read()
    plain = gzip.decompress(raw) if coding == "gzip" else bytes(cramjam.zstd.decompress(raw))
    lines = [json.loads(line) for line in plain.splitlines()]
    assert lines[-1]["type"] == "end"
    if coding == "gzip":
        found = [int(line["data"]["transaction_id"], 16) for line in lines[1:-1]]
        assert found == surroundings.ledger.numbers[1, "clicks"]


async def test_callers_without_the_right_get_the_wire_texts(
    surroundings: Surroundings, partner: Partner
):
    """The same texts as at the gateway; a partner without firehose is told what to do."""
    foreign, off = generate(), generate()
    await surroundings.put_key(foreign, "k2", realm="network")
    await surroundings.put_key(off, "k3", partner=3)
    await partner.until_status(403, key=off)
    for key, status, text in (
        (None, 401, "No Authentication Method Found"),
        (generate(), 401, "Unable to authenticate request"),
        (foreign, 403, "Out of realm"),
        (off, 403, "The firehose is not enabled for this partner; ask the network to enable it"),
    ):
        found, body, headers = await partner.refusal(key=key)
        assert (found, body) == (status, {"Error": text, "error": text, "message": text})
        assert len(headers["X-Request-Id"]) == 32
    async with partner.session.post(f"{partner.url}{STREAM}") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
    async with partner.session.get(f"{partner.url}/v1/other") as response:
        assert (response.status, (await response.json())["error"]) == (404, "Not Found")


async def test_what_cannot_be_asked_for_is_named(partner: Partner):
    """A mistake is answered with its place, before anything is streamed."""
    async with partner.ask("types=clicks") as response:
        cursor = (await _begun(response)).id
    other = Cursor.decode(cursor)
    foreign = Cursor(1, 2, other.places).encode()
    for query, word in (
        ("types=postbacks", "postbacks"),
        ("start=yesterday", "start"),
        ("since=yesterday", "since"),
        (f"since={'9' * 400}", "since"),
        ("start=earliest&since=1", "one of them"),
        ("offers=shoes", "shoes"),
        ("statuses=lost", "lost"),
        ("limit=5", "limit"),
        ("cursor=abc", "cursor"),
        (f"cursor={cursor[:-1]}", "cursor"),
        (f"cursor={foreign}", "another partner"),
        (f"cursor={cursor}&types=clicks,conversions", "clicks"),
        ("&".join(f"offers={number}" for number in range(101)), "parameters"),
    ):
        status, body, _ = await partner.refusal(query)
        assert (status, word in body["error"]) == (400, True), (query, body)
    async with partner.ask(f"cursor={cursor}&types=clicks") as response:
        assert (await _begun(response)).id == cursor


@pytest.mark.logs_errors
async def test_a_place_that_is_gone_is_answered_with_the_oldest(surroundings: Surroundings):
    """410 carries the cursor with which the client can go on; an open stream ends with it."""
    async with open_firehose(surroundings, topic_check_seconds=0.1) as partner:
        await surroundings.ledger.send(1, "clicks", 10)
        async with partner.ask("types=clicks,conversions&start=earliest") as response:
            received = Received()
            await _read(response, received, 10)
            await recreate(surroundings.bootstrap, surroundings.tracking, "clicks")
            ended = await _end(response)
        assert ended["reason"] in ("gone", "unavailable")
        await partner.until_status(410, f"cursor={received.cursor}")
        _, body, _ = await partner.refusal(f"cursor={received.cursor}")
        await surroundings.ledger.send(1, "clicks", 3)
        received = Received()
        async with partner.ask(f"cursor={body['oldest']}") as response:
            await _read(response, received, 3)
        assert received.numbers["clicks"] == surroundings.ledger.numbers[1, "clicks"][10:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("revoke", "revoked"),
        ("expire", "expired"),
        ("allowlist", "allowlist"),
        ("suspend", "suspended"),
        ("off", "firehose_off"),
    ],
)
async def test_an_open_stream_ends_with_the_right_to_it(
    surroundings: Surroundings, partner: Partner, change, reason
):
    """Within about a second of the change, named, with the cursor to go on at if it comes back."""
    async with partner.ask("types=clicks", Accept="application/x-ndjson") as response:
        cursor = (await _begun(response)).id
        began = time.monotonic()
        match change:
            case "revoke":
                await surroundings.put_key(status="revoked")
            case "expire":
                await surroundings.put_key(expires_at=time.time() + 0.3)
            case "allowlist":
                await surroundings.put_key(allowlist=("203.0.113.7",))
            case "suspend":
                await surroundings.put_partner(suspended=True)
            case "off":
                await surroundings.put_partner(firehose_enabled=False)
        assert await _end(response) == {"reason": reason, "cursor": cursor}
        assert time.monotonic() - began < 10  # a second on an idle machine
    status, _, _ = await partner.refusal("types=clicks")
    assert status in (401, 403)


async def test_a_partner_has_few_streams_and_a_replica_few_that_catch_up(
    surroundings: Surroundings,
):
    """Beyond the limits 429 and 503 say when to come again; a closed stream makes room."""
    second = generate()
    await surroundings.put_key(second, "k2", partner=2)
    await surroundings.put_partner(2)
    limits = {"streams_per_partner_max": 2, "catch_up_readers_max": 1, "ring_bytes_max": 20_000}
    async with open_firehose(surroundings, **limits) as partner:
        async with partner.ask() as one, partner.ask() as two:
            await _begun(one)
            await _begun(two)
            status, body, headers = await partner.refusal()
            assert (status, headers["Retry-After"]) == (429, "5")
            assert "2 open streams" in body["error"]
        await partner.until_status(200)
        await surroundings.ledger.send(1, "clicks", EVENTS)
        await surroundings.ledger.send(2, "clicks", 200)
        deaf = await asyncio.to_thread(_deaf_client, partner.url)
        await partner.until_status(503, "start=earliest", key=second)
        _, _, headers = await partner.refusal("start=earliest", key=second)
        assert headers["Retry-After"] == "5"
        await asyncio.to_thread(deaf.close)
        await partner.until_status(200, "start=earliest", key=second)


def _deaf_client(url: str) -> socket.socket:
    """A client that asks for everything and reads nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.connect((host, int(port)))
    request = f"GET {STREAM}?start=earliest HTTP/1.1\r\nHost: x\r\nX-Eflow-API-Key: {KEY.reveal()}"
    client.sendall(f"{request}\r\n\r\n".encode())
    return client


async def test_a_client_that_reads_nothing_is_closed(surroundings: Surroundings):
    """It costs a bounded buffer for a bounded time; the record says how far it got."""
    await surroundings.ledger.send(1, "clicks", EVENTS)
    async with open_firehose(surroundings, stall_seconds=1.0) as partner:
        client = await asyncio.to_thread(_deaf_client, partner.url)
        _, closed = await surroundings.recorded(2)
        await asyncio.to_thread(client.close)
        assert isinstance(closed, SessionClosed)
        assert closed.reason == "slow"
        assert 0 < closed.events < EVENTS
        received = Received()
        async with partner.ask(f"cursor={closed.cursor}") as response:
            await _read(response, received, EVENTS - closed.events)
        assert (
            received.numbers["clicks"] == surroundings.ledger.numbers[1, "clicks"][closed.events :]
        )


async def test_heartbeats_carry_the_cursor_past_what_is_not_sent(surroundings: Surroundings):
    """A stream on which nothing passes the filter still moves on, and says so."""
    async with open_firehose(surroundings, heartbeat_seconds=0.3) as partner:
        async with partner.ask("types=clicks&offers=8") as response:
            first = await _begun(response)
            await surroundings.ledger.send(1, "clicks", 10)
            moved = first.id
            async with asyncio.timeout(SECONDS):
                async for message in messages(response):
                    assert message.name == "heartbeat"
                    moved = message.id
                    if _offset(moved) == _offset(first.id) + 10:
                        break
        async with partner.ask(f"types=clicks&cursor={moved}") as response:
            assert (await _begun(response)).id == moved


def _offset(cursor: str) -> int:
    (place,) = Cursor.decode(cursor).places.values()
    return place.offset


@pytest.mark.logs_errors
async def test_a_stream_cut_off_from_kafka_lives_on_for_a_while(kafka_broker):
    """Heartbeats go on; once nobody can know who was revoked, the stream ends as `stale`."""
    async with open_surroundings(kafka_broker.bootstrap) as surroundings:
        limits = {"stale_seconds": 4.0, "heartbeat_seconds": 0.2}
        async with open_firehose(surroundings, **limits) as partner:
            async with partner.ask("types=clicks") as response:
                first = await _begun(response)
                await kafka_broker.stop()
                async with asyncio.timeout(SECONDS):
                    found = [message async for message in messages(response)]
            assert sum(message.name == "heartbeat" for message in found) > 2
            assert found[-1].data == {"reason": "stale", "cursor": first.id}
            status, _, headers = await partner.refusal("types=clicks")
            assert (status, headers["Retry-After"]) == (503, "5")
            await kafka_broker.start()
            await partner.until_status(200, f"types=clicks&cursor={first.id}")


async def test_sessions_are_recorded_with_both_ends(surroundings: Surroundings, partner: Partner):
    """Who streamed, from where, how much, and why it ended; a drain leaves no session open."""
    plain = {"Accept_Encoding": "identity"}
    async with partner.ask("types=clicks&start=earliest", **plain) as response:
        received = Received()
        await surroundings.ledger.send(1, "clicks", 5)
        await _read(response, received, 5)
    opened, closed = await surroundings.recorded(2)
    assert isinstance(opened, SessionOpened)
    assert (opened.key_id, opened.masked, opened.client_ip) == ("k1", KEY.masked, "127.0.0.1")
    assert (opened.types, opened.start) == (("clicks",), "earliest")
    assert isinstance(closed, SessionClosed)
    assert closed.session_id == opened.session_id
    assert (closed.reason, closed.events, closed.cursor) == ("client", 5, received.cursor)
    assert closed.bytes > 5 * len(tracking.click(1, 1, 1))
    async with partner.ask("types=clicks") as response:
        cursor = (await _begun(response)).id
        partner.stop.set()
        assert await _end(response) == {"reason": "draining", "cursor": cursor}
    *_, closed = await surroundings.recorded(4)
    assert isinstance(closed, SessionClosed)
    assert closed.reason == "draining"


async def test_no_event_reaches_another_partner(surroundings: Surroundings, partner: Partner):
    """Also not one that stands under a partner's key while its body says it is another's."""
    topic = surroundings.tracking["clicks"].name
    async with partner.ask("types=clicks") as response:
        await _begun(response)
        foreign = tracking.click(1, 2, 900)
        await surroundings.producer.send_and_wait(topic, foreign, key=b"1:1")
        await surroundings.producer.send_and_wait(topic, b"{", key=b"1:1")
        await surroundings.ledger.send(2, "clicks", 3)
        await surroundings.ledger.send(1, "clicks", 1)
        received = Received()
        await _read(response, received, 1)
    assert received.numbers["clicks"] == surroundings.ledger.numbers[1, "clicks"]
    async with partner.session.get(f"{partner.url}/metrics") as response:
        metrics = await response.text()
    assert 'tail_records_skipped_total{type="clicks"} 2.0' in metrics
    assert "firehose_events_total" in metrics
    assert KEY.reveal() not in metrics


async def test_many_live_streams_share_the_fetches(surroundings: Surroundings):
    """Twenty streams of a partner get every event, and none fetches for itself."""
    async with open_firehose(surroundings, streams_per_partner_max=20) as partner:
        received = [Received() for _ in range(20)]

        async def follow(mine: Received) -> None:
            async with partner.ask("types=clicks") as response:
                await _begun(response)
                begun.append(mine)
                await _read(response, mine, 50)

        begun: list[Received] = []
        async with asyncio.TaskGroup() as group:
            for mine in received:
                group.create_task(follow(mine))
            await until(lambda: len(begun) == 20)
            await surroundings.ledger.send(1, "clicks", 50)
        assert all(mine.numbers == received[0].numbers for mine in received)
        assert received[0].numbers["clicks"] == surroundings.ledger.numbers[1, "clicks"]
        async with partner.session.get(f"{partner.url}/metrics") as response:
            assert "tail_catch_up_readers 0.0" in await response.text()


async def test_clicks_and_conversions_of_a_partner_are_each_in_one_partition(
    surroundings: Surroundings,
):
    """What the cursor stands on: one place per type."""
    topic = surroundings.tracking["clicks"].name
    places = set()
    for number in range(20):
        value = tracking.click(1, 1, number)
        found = await surroundings.producer.send_and_wait(topic, value, key=b"1:1")
        places.add(TopicPartition(found.topic, found.partition))
    assert len(places) == 1
