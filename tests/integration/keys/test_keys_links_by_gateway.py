"""Protects links where visitors meet them: through a real gateway, which passes pages as they are."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote_plus

import httpx
import pytest

from services.keys.app import build
from shared.events import ShareOpened
from shared.runtime import serve
from tests.gateway_parts import Partner, gate, open_gateway
from tests.keys_parts import Platform, network, partner, staff, until, until_published
from tests.shares_parts import SECRET, path_of, secrets_in, visit

pytestmark = pytest.mark.slow

PASSPHRASE = "correct horse battery"
OUR_CLIENTS = ("httpx", "httpcore")
"""Loggers of what stands for the browser here."""


@asynccontextmanager
async def keys_in_this_process(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    """The key service, ready, where `caplog` sees all that it logs."""
    for name, value in platform.environment().items():
        monkeypatch.setenv(name, value)
    stop = asyncio.Event()
    async with (
        asyncio.TaskGroup() as group,
        httpx.AsyncClient(verify=False, base_url=platform.url) as client,
    ):
        group.create_task(serve(build(), stop))

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        try:
            await until(ready)
            yield platform
        finally:
            stop.set()


async def test_a_visitor_opens_a_link_through_the_gateway_and_no_log_knows_the_token(
    platform, unique, caplog, monkeypatch
):
    """Pages, forms, methods and headers come as they are; both services log at debug level."""
    caplog.set_level(logging.DEBUG)
    ours = network()
    async with keys_in_this_process(platform, monkeypatch) as service:
        await service.tell(partner(ours))
        key = await service.issue(staff(ours), 7)
        shares = f"/v1/networks/apikeys/{key['key_id']}/shares"
        made = await service.call("POST", shares, staff(ours), {"passphrase": PASSPHRASE})
        path = path_of(made.json())
        options = {"identity_secrets": service.secrets.identity, "upstream_keys": service.url}
        async with gate(service.bootstrap, unique) as surroundings:
            async with open_gateway(surroundings, **options) as client:
                await _visit_by(client, path, key["key"])
            summaries = await surroundings.summaries()
    endpoints = {count.endpoint for _, one in summaries for count in one.counts}
    assert endpoints <= {"/v1/shares/{token}"}
    lines = [record for record in caplog.records if not record.name.startswith(OUR_CLIENTS)]
    assert [record.msg for record in lines if record.name == "shared.runtime"].count("serving") == 2
    assert any(record.levelno == logging.DEBUG for record in lines)
    seen = repr([(record.getMessage(), vars(record)) for record in lines]) + repr(summaries)
    token = path.rpartition("/")[2]
    for clear in (token, PASSPHRASE, quote_plus(PASSPHRASE), key["key"]):
        assert clear not in seen
        assert clear.encode().hex() not in seen


@pytest.mark.logs_errors
async def test_a_secret_that_does_not_open_uses_no_link_up(platform, monkeypatch):
    """A fault of ours for that press: nothing is told as shown, and the link works once mended."""
    ours = network()
    async with keys_in_this_process(platform, monkeypatch) as service:
        await service.tell(partner(ours))
        key, other = [await service.issue(staff(ours), 7, name) for name in ("crm", "other")]
        shares = f"/v1/networks/apikeys/{key['key_id']}/shares"
        path = path_of((await service.call("POST", shares, staff(ours))).json())
        swap = """UPDATE keys SET sealed = found.sealed FROM keys AS found
            WHERE keys.key_id = ANY($1) AND found.key_id = ANY($1)
              AND keys.key_id <> found.key_id"""
        for status in (500, 200):
            await service.execute(swap, [key["key_id"], other["key_id"]])
            pressed = await visit(service, "POST", path)
            assert pressed.status_code == status
            assert secrets_in(pressed) == ([key["key"]] if status == 200 else [])
        await until_published(service)
        told = [one for one in await service.told(ours) if isinstance(one, ShareOpened)]
        assert [event.outcome for event in told] == ["shown"]


async def _visit_by(client: Partner, path: str, key: str) -> None:
    url = client.url + path
    looked = await client.session.get(url)
    assert (looked.status, looked.content_type) == (200, "text/html")
    assert looked.headers["cache-control"] == "no-store"
    assert looked.headers["referrer-policy"] == "no-referrer"
    assert looked.headers["x-frame-options"] == "DENY"
    assert looked.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert looked.headers["x-request-id"]
    assert 'name="passphrase"' in await looked.text()
    for method in ("HEAD", "PUT", "DELETE"):
        other = await client.session.request(method, url)
        assert (other.status, other.headers["allow"]) == (405, "GET, POST")
    presses = [
        ({"passphrase": "x" * 10_000}, 400),
        ({"passphrase": "a wrong one"}, 403),
        ({"passphrase": PASSPHRASE}, 200),
        ({"passphrase": PASSPHRASE}, 410),
    ]
    for form, status in presses:
        answer = await client.session.post(url + "/" * (status == 410), data=form)
        assert (answer.status, answer.content_type) == (status, "text/html")
        assert answer.headers["cache-control"] == "no-store"
        assert SECRET.findall(await answer.text()) == ([key] if status == 200 else [])
    missing = await client.session.get(client.url + "/v1/shares/" + "a" * 43)
    assert (missing.status, missing.content_type) == (404, "text/html")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_answer_puts_no_token_into_the_gateways_log(
    applied_topics, unique, caplog, method
):
    """The client library names the whole address in its error; the log names the row."""
    caplog.set_level(logging.DEBUG)
    path = "/v1/shares/" + "a" * 43
    server = await asyncio.start_server(_babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    options = {"upstream_keys": f"http://127.0.0.1:{port}"}
    async with (
        server,
        gate(applied_topics, unique) as surroundings,
        open_gateway(surroundings, **options) as client,
    ):
        answer = await client.session.request(method, client.url + path)
        assert answer.status == 502
    lines = [vars(record) for record in caplog.records if record.msg == "upstream failed"]
    assert [line["endpoint"] for line in lines] == ["/v1/shares/{token}"]
    assert "a" * 43 not in caplog.text + repr([vars(record) for record in caplog.records])


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what no HTTP server would."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 banana\r\n\r\n")
    await writer.drain()
    writer.close()
