"""Protects links where visitors meet them: through a real gateway, which passes pages as they are."""

import asyncio
import logging

import pytest

from tests.gateway_parts import gate, open_gateway
from tests.keys_parts import network, partner, staff
from tests.shares_parts import SECRET, path_of

pytestmark = pytest.mark.slow

PASSPHRASE = "correct horse battery"


async def test_a_visitor_opens_a_link_through_the_gateway(service, applied_topics, unique, caplog):
    """Pages, forms, methods and headers; the token is in no log and no summary of the gateway."""
    caplog.set_level(logging.DEBUG)
    ours = network()
    await service.tell(partner(ours))
    key = await service.issue(staff(ours), 7)
    shares = f"/v1/networks/apikeys/{key['key_id']}/shares"
    made = await service.call("POST", shares, staff(ours), {"passphrase": PASSPHRASE})
    path = path_of(made.json())
    token = path.rpartition("/")[2]
    options = {"identity_secrets": service.secrets.identity, "upstream_keys": service.url}
    async with gate(applied_topics, unique) as surroundings:
        async with open_gateway(surroundings, **options) as client:
            looked = await client.session.get(client.url + path)
            page = await looked.text()
            assert (looked.status, looked.content_type) == (200, "text/html")
            assert looked.headers["cache-control"] == "no-store"
            assert looked.headers["referrer-policy"] == "no-referrer"
            assert looked.headers["x-frame-options"] == "DENY"
            assert looked.headers["content-security-policy"].startswith("default-src 'none'; ")
            assert looked.headers["x-request-id"]
            assert 'name="passphrase"' in page
            for method in ("HEAD", "PUT", "DELETE"):
                other = await client.session.request(method, client.url + path)
                assert (other.status, other.headers["allow"]) == (405, "GET, POST")
            big = await client.session.post(client.url + path, data={"passphrase": "x" * 10_000})
            assert (big.status, big.content_type) == (400, "text/html")
            wrong = await client.session.post(client.url + path, data={"passphrase": "a wrong one"})
            assert (wrong.status, SECRET.findall(await wrong.text())) == (403, [])
            shown = await client.session.post(client.url + path, data={"passphrase": PASSPHRASE})
            assert (shown.status, SECRET.findall(await shown.text())) == (200, [key["key"]])
            again = await client.session.post(
                client.url + path + "/", data={"passphrase": PASSPHRASE}
            )
            assert (again.status, SECRET.findall(await again.text())) == (410, [])
            assert again.headers["cache-control"] == "no-store"
            missing = await client.session.get(client.url + "/v1/shares/" + "a" * 43)
            assert (missing.status, missing.content_type) == (404, "text/html")
        told = repr(await surroundings.summaries())
    seen = caplog.text + repr([vars(record) for record in caplog.records]) + told
    assert token not in seen
    assert PASSPHRASE not in seen
    assert key["key"] not in seen
    assert token not in service.log.read_text()


async def test_a_broken_answer_puts_no_token_into_the_gateways_log(applied_topics, unique, caplog):
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
        for method in ("GET", "POST"):
            answer = await client.session.request(method, client.url + path)
            assert answer.status == 502
    lines = [vars(record) for record in caplog.records if record.msg == "upstream failed"]
    assert len(lines) == 2
    assert {line["endpoint"] for line in lines} == {"/v1/shares/{token}"}
    assert "a" * 43 not in caplog.text + repr([vars(record) for record in caplog.records])


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer what no HTTP server would."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 banana\r\n\r\n")
    await writer.drain()
    writer.close()
