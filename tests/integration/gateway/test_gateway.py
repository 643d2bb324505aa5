"""Protects the gateway through HTTP, with a real Kafka before it and a service behind it."""

import asyncio
import json
import re
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from deploy.local.kafka import Kafka
from deploy.local.ports import free_ports
from shared.events import Budget
from shared.partner_key import generate
from tests.gateway_parts import (
    KEY,
    KEYS_OF_PARTNER,
    NETWORK,
    STREAM,
    TABLE,
    TOKEN,
    Gate,
    Partner,
    gate,
    identity_of,
    open_gateway,
)
from tests.waiting import until


@pytest.fixture
async def surroundings(kafka_bootstrap, unique):
    async with gate(kafka_bootstrap, unique) as found:
        await found.put_key(KEY)
        await found.put_network(affiliate=Budget(rate=1_000, burst=10_000))
        yield found


@pytest.fixture
async def partner(surroundings: Gate):
    async with open_gateway(surroundings, silence_seconds=1.0, body_bytes_max=100_000) as found:
        yield found


async def test_a_request_reaches_its_service_with_who_it_is_and_without_the_key(
    surroundings: Gate, partner: Partner
):
    """The service learns network, partner, key and address; never the secret."""
    claims = {"X-Portico-Identity": "v1.forged", "X-Request-Id": "mine", "Accept": "x/y"}
    status, headers, answer = await partner.ask(f"{NETWORK}/?a=%2F&b=1", key=KEY, headers=claims)
    assert (status, answer) == (200, {"length": 0})
    (request,) = surroundings.behind.seen
    assert request.raw_path == f"{NETWORK}?a=%2F&b=1"
    identity = identity_of(request)
    assert (identity.network_id, identity.network_affiliate_id, identity.key_id) == (1, 7, "k1")
    assert identity.client_ip == "127.0.0.1"
    assert re.fullmatch("[0-9a-f]{32}", headers["X-Request-Id"])
    assert headers["X-Request-Id"] == identity.request_id == request.headers["X-Request-Id"]
    assert headers["X-RateLimit-Limit"] == "10000"
    assert headers["RateLimit-Policy"] == '"affiliate";q=10000;w=10'
    assert headers["RateLimit"].startswith('"affiliate";r=9999;t=')
    assert KEY.reveal() not in str(request.headers)
    assert request.headers["Accept"] == "x/y"


async def test_refusals_have_their_status_and_text_in_wire_form(
    surroundings: Gate, partner: Partner
):
    """The texts that deployed clients compare, under every member that they read."""
    other = generate()
    await surroundings.put_key(other, "k2", realm="network")
    await partner.until_status(403, key=other)
    wanted = {
        ("/v1/nothing", None): (404, "Not Found"),
        ("/v1/nothing", KEY): (404, "Not Found"),
        (TABLE, KEY): (405, "Method Not Allowed"),
        (NETWORK, None): (401, "No Authentication Method Found"),
        (NETWORK, generate()): (401, "Unable to authenticate request"),
        (NETWORK, other): (403, "Out of realm"),
        ("/v1/networks/apikeys", KEY): (403, "Out of realm"),
        ("/v1/networks/apikeys", None): (401, "No Authentication Method Found"),
    }
    for (path, key), (status, text) in wanted.items():
        found, headers, body = await partner.ask(path, key=key)
        assert (found, body) == (status, {"Error": text, "error": text, "message": text}), path
        assert headers["Content-Type"] == "application/json"
        assert len(headers["X-Request-Id"]) == 32
    assert surroundings.behind.seen == []


async def test_changes_on_the_log_take_effect(surroundings: Gate, partner: Partner):
    """Issue, allowlist, suspension, expiry and revocation, in either direction."""
    key = generate()
    assert await partner.status(key=key) == 401
    await surroundings.put_key(key, "k2")
    await partner.until_status(200, key=key)
    await surroundings.put_key(key, "k2", allowlist=("10.0.0.0/8",))
    await partner.until_status(403, key=key)
    await surroundings.put_key(key, "k2", allowlist=("127.0.0.0/8",))
    await partner.until_status(200, key=key)
    await surroundings.put_partner(suspended=True)
    await partner.until_status(403, key=key)
    await surroundings.put_partner()
    await partner.until_status(200, key=key)
    await surroundings.put_key(key, "k2", expires_at=1.0)
    await partner.until_status(401, key=key)
    await surroundings.put_key(key, "k2")
    await partner.until_status(200, key=key)
    await surroundings.put_key(key, "k2", status="revoked")
    await partner.until_status(401, key=key)
    assert await partner.status(key=KEY) == 200


async def test_the_budget_is_the_networks_and_its_headers_are_honest(
    surroundings: Gate, partner: Partner
):
    """A burst gets what remains, then 429 for every partner of the network, until the refill."""
    other, foreign = generate(), generate()
    await surroundings.put_key(other, "k2", network_affiliate_id=8)
    await surroundings.put_key(foreign, "k3", network_id=2)
    await partner.until_status(200, key=foreign)
    await surroundings.put_network(affiliate=Budget(rate=0.5, burst=3))
    remaining = 10_000
    async with asyncio.timeout(30):
        while remaining > 3:
            _, headers, _ = await partner.ask(key=other)
            remaining = int(headers["X-RateLimit-Remaining"])
    for left in range(remaining - 1, -1, -1):
        status, headers, _ = await partner.ask(key=KEY)
        assert (status, headers["X-RateLimit-Remaining"]) == (200, str(left))
    for key in (KEY, other):
        status, headers, body = await partner.ask(key=key)
        assert (status, body["violated-policies"]) == (429, ["affiliate"])
        assert headers["RateLimit-Policy"] == '"affiliate";q=3;w=6'
        assert headers["Retry-After"] in ("1", "2")
        assert headers["RateLimit"] == f'"affiliate";r=0;t={headers["Retry-After"]}'
    assert await partner.status(key=foreign) == 200
    await partner.until_status(200, key=KEY)


async def test_an_answer_streams_through_and_ends_with_its_reader(
    surroundings: Gate, partner: Partner
):
    """Each event passes as it comes; when the reader leaves, the service is told."""
    url = f"{partner.url}{STREAM}?do=stream"
    async with asyncio.timeout(30), partner.session.get(url, headers=TOKEN) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert await response.content.readany() == b"data: 1\n\n"
        surroundings.behind.go_on.set()
        assert await response.content.readany() == b"data: 2\n\n"
        assert not surroundings.behind.left_alone.is_set()
    await until(surroundings.behind.left_alone.is_set)
    identity = identity_of(surroundings.behind.seen[0])
    assert (identity.network_id, identity.key_id) == (0, "")
    assert surroundings.behind.seen[0].headers["Authorization"] == TOKEN["Authorization"]


async def test_a_stop_ends_streams_whole(surroundings: Gate):
    """A draining gateway closes an endless answer as one that came to its end."""
    async with open_gateway(surroundings) as partner:
        url = f"{partner.url}{STREAM}?do=stream"
        async with asyncio.timeout(30), partner.session.get(url, headers=TOKEN) as response:
            assert await response.content.readany() == b"data: 1\n\n"
            partner.stop.set()
            assert await response.content.read() == b""
    await until(surroundings.behind.left_alone.is_set)


async def test_a_body_streams_through(surroundings: Gate, partner: Partner):
    """The service has the first piece before the client has sent the second."""
    behind = surroundings.behind

    async def body():
        yield b"first"
        await until(lambda: behind.pieces == [b"first"])
        yield b"second"

    issue = f"{KEYS_OF_PARTNER}?do=take"
    status, _, _ = await partner.ask(issue, headers=TOKEN, method="POST", data=body())
    assert (status, behind.pieces) == (200, [b"first", b"second"])


async def test_bodies_are_bounded_declared_or_not(partner: Partner):
    """A chunked body tells its length only by coming."""

    async def body():
        for _ in range(20):
            yield b"x" * 10_000

    report = {"path": TABLE, "key": KEY, "method": "POST"}
    issue = {"path": KEYS_OF_PARTNER, "headers": TOKEN, "method": "POST"}
    for request, longest in ((report, 65_536), (issue, 100_000)):
        for data in (b"x" * (longest + 1), body()):
            found, _, answer = await partner.ask(**request, data=data)
            assert (found, answer["error"]) == (413, "Body too large")
        found, _, answer = await partner.ask(**request, data=b"x" * longest)
        assert (found, answer) == (200, {"length": longest})


async def test_granular_reports_are_counted_by_the_hour(surroundings: Gate, partner: Partner):
    """The body is read to see what it costs, and reaches its service whole, chunked or not."""
    await surroundings.put_network(affiliate=Budget(rate=1_000, burst=10_000), granular_per_hour=2)
    report = b'{"columns": [{"column": "sub1"}]}'

    async def chunked():
        yield report[:10]
        yield report[10:]

    async with asyncio.timeout(30):
        policy = ""
        while "q=2;" not in policy:
            _, headers, answer = await partner.ask(TABLE, key=KEY, method="POST", data=chunked())
            policy = headers["RateLimit-Policy"]
            assert answer == {"length": len(report)}
    statuses = [await partner.status(TABLE, key=KEY, method="POST", data=report) for _ in "123"]
    assert statuses[-1] == 429
    _, headers, body = await partner.ask(TABLE, key=KEY, method="POST", data=report)
    assert (body["violated-policies"], '"granular";r=0' in headers["RateLimit"]) == (
        ["granular"],
        True,
    )
    assert await partner.status(TABLE, key=KEY, method="POST", data=b"{}") == 200


async def test_a_client_that_stops_in_the_middle_of_its_body_is_not_waited_for(partner: Partner):
    """Whoever is silent for too long is told so, or cut off."""

    async def body():
        yield b"{"
        await asyncio.Event().wait()

    for request in ({"path": TABLE, "key": KEY}, {"path": KEYS_OF_PARTNER, "headers": TOKEN}):
        async with asyncio.timeout(30):
            found, _, answer = await partner.ask(**request, method="POST", data=body())
        assert (found, answer["error"]) == (408, "The body did not arrive in time")


@pytest.mark.parametrize(
    ("do", "status", "text"),
    [("vanish", 502, "Bad gateway"), ("say_nothing", 504, "Gateway timeout")],
)
async def test_a_service_that_fails_is_told_in_wire_form(partner: Partner, do, status, text):
    """Never a hang, never the service's own words; the next request is served."""
    async with asyncio.timeout(30):
        found, headers, body = await partner.ask(f"{NETWORK}?do={do}", key=KEY)
    assert (found, body["Error"], body["error"]) == (status, text, text)
    assert "X-RateLimit-Limit" in headers
    assert await partner.status(key=KEY) == 200


async def test_a_service_that_is_not_there_is_unavailable(surroundings: Gate):
    """503 says when to come again; the other services are served."""
    nowhere = f"http://127.0.0.1:{free_ports(1)[0]}"
    async with open_gateway(surroundings, upstream_audit=nowhere) as partner:
        found, headers, body = await partner.ask("/v1/audit/entries", headers=TOKEN)
        assert (found, headers["Retry-After"]) == (503, "1")
        assert body["error"] == "Temporarily unavailable."
        assert await partner.status(key=KEY) == 200


@pytest.mark.logs_errors
async def test_half_an_answer_never_reads_as_a_whole_one(partner: Partner):
    """The client's connection breaks as the service's did."""
    url = f"{partner.url}{NETWORK}?do=break_off"
    key = {"X-Eflow-API-Key": KEY.reveal()}
    with pytest.raises(aiohttp.ClientPayloadError):
        async with partner.session.get(url, headers=key) as response:
            await response.read()
    assert await partner.status(key=KEY) == 200


async def test_summaries_add_up_to_the_requests_made(surroundings: Gate):
    """Published once a second, and what is left at the end of a stop; a restart adds its own."""
    unknown = generate()
    async with open_gateway(surroundings) as partner:
        for _ in range(7):
            assert await partner.status(key=KEY) == 200
        for _ in range(3):
            assert await partner.status(key=unknown) == 401
        assert await partner.status() == 401
        assert await partner.status("/v1/networks/apikeys", key=KEY) == 403
        assert await partner.status("/v1/nothing", key=KEY) == 404
    async with open_gateway(surroundings) as partner:
        assert await partner.status(f"{NETWORK}?do=vanish", key=KEY) == 502
    told: Counter = Counter()
    for key, summary in await surroundings.summaries():
        partner_of = f"{summary.network_id}:{summary.network_affiliate_id}"
        assert key.decode() == ("-:-" if summary.network_id == 0 else partner_of)
        for item in summary.counts:
            assert item.client_ip == "127.0.0.1"
            assert (item.key_id, item.masked) == (("k1", KEY.masked) if key == b"1:7" else ("", ""))
            told[key, item.method, item.endpoint, item.status, item.refusal] += item.count
    assert told == {
        (b"1:7", "GET", NETWORK, 200, ""): 7,
        (b"1:7", "GET", "/v1/networks/apikeys", 403, "realm"): 1,
        (b"1:7", "GET", NETWORK, 502, ""): 1,
        (b"-:-", "GET", NETWORK, 401, "unknown"): 3,
        (b"-:-", "GET", NETWORK, 401, "missing"): 1,
    }


async def test_a_starting_gateway_lets_nobody_in_before_it_has_caught_up(surroundings: Gate):
    """From its first answer on, a revoked key is refused; before it knows, everybody is."""
    revoked = generate()
    for number in range(400):
        await surroundings.put_key(generate(), f"other-{number}")
    await surroundings.put_key(revoked, "k2")
    await surroundings.put_key(revoked, "k2", status="revoked")
    for _ in range(3):
        seen: list[tuple[int, int]] = []
        async with open_gateway(surroundings, wait=False) as partner, asyncio.timeout(30):
            while (200, 401) not in seen:
                seen.append((await partner.status(key=KEY), await partner.status(key=revoked)))
        assert set(seen) <= {(503, 503), (503, 401), (200, 401)}


@pytest.mark.slow
@pytest.mark.logs_errors
async def test_cut_off_from_kafka_it_refuses_after_the_stale_seconds(kafka_broker, unique):
    """It cannot know who was revoked meanwhile; afterwards it goes on by itself."""
    async with gate(kafka_broker.bootstrap, unique) as surroundings:
        await surroundings.put_key(KEY)
        async with open_gateway(surroundings, stale_seconds=3.0) as partner:
            assert await partner.status(key=KEY) == 200
            await kafka_broker.stop()
            assert await partner.status(key=KEY) == 200
            await partner.until_status(503, key=KEY)
            _, headers, body = await partner.ask(key=KEY)
            assert (headers["Retry-After"], body["error"]) == ("5", "Temporarily unavailable.")
            await kafka_broker.start()
            await partner.until_status(200, key=KEY)


@pytest.mark.slow
async def test_a_slow_log_delays_what_is_known_and_lets_nobody_in(kafka_broker, unique):
    """With a broker that hangs most of the time: no answer too early, none too long, no 503."""
    async with gate(kafka_broker.bootstrap, unique) as surroundings:
        revoked = generate()
        for number in range(400):
            await surroundings.put_key(generate(), f"other-{number}")
        await surroundings.put_key(revoked, "k2")
        await surroundings.put_key(revoked, "k2", status="revoked")
        await surroundings.put_key(KEY)
        async with _slowed(kafka_broker), open_gateway(surroundings, wait=False) as partner:
            seen: list[tuple[int, int]] = []
            async with asyncio.timeout(60):
                while (200, 401) not in seen:
                    seen.append((await partner.status(key=KEY), await partner.status(key=revoked)))
            assert set(seen) <= {(503, 503), (503, 401), (200, 401)}
            await surroundings.put_key(KEY, status="revoked")
            late: list[int] = []
            async with asyncio.timeout(60):
                while 401 not in late:
                    late.append(await partner.status(key=KEY))
            assert set(late) <= {200, 401}


@asynccontextmanager
async def _slowed(broker: Kafka) -> AsyncIterator[None]:
    """The broker runs for 20 ms, hangs for 180, and so on, until the block ends."""

    async def hang() -> None:
        while True:
            broker.child.send(signal.SIGSTOP)
            await asyncio.sleep(0.18)
            broker.child.send(signal.SIGCONT)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        hanging = tasks.create_task(hang())
        try:
            yield
        finally:
            hanging.cancel()
            broker.child.send(signal.SIGCONT)


async def test_the_access_log_tells_each_request_and_no_secret(surroundings, tmp_path):
    """By the template of its path and the masked key; a stop writes the last lines."""
    path = tmp_path / "access.log"
    async with open_gateway(surroundings, access_log=str(path)) as partner:
        assert await partner.status(NETWORK, key=KEY) == 200
        assert await partner.status("/v1/shares/a-secret-token") == 200
        assert await partner.status("/v1/nothing", key=KEY) == 404
    told = [json.loads(line) for line in path.read_text().splitlines()]
    asked = [(each["endpoint"], each["status"], each["network_affiliate_id"]) for each in told]
    assert asked == [(NETWORK, 200, 7), ("/v1/shares/{token}", 200, 0), ("(none)", 404, 0)]
    assert told[0]["key"] == KEY.masked
    assert len({each["request_id"] for each in told}) == 3
    assert KEY.reveal() not in path.read_text()
    assert "a-secret-token" not in path.read_text()


async def test_a_trace_goes_on_to_the_service(surroundings):
    """Whoever follows a request through the platform finds it behind the door."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with open_gateway(surroundings) as partner:
        headers = {"traceparent": trace, "tracestate": "vendor=1"}
        assert await partner.status(NETWORK, key=KEY, headers=headers) == 200
    (seen,) = surroundings.behind.seen
    assert (seen.headers["traceparent"], seen.headers["tracestate"]) == (trace, "vendor=1")
