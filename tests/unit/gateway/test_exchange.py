"""Protects what stands between a client's connection and a service's, at the worst moments."""

import logging

import pytest

from shared.partner_key import generate
from tests.played_parts import PlayedGateway

KEY = generate()
GET = (
    f"GET /v1/affiliates/network HTTP/1.1\r\nHost: a\r\nX-Eflow-API-Key: {KEY.reveal()}\r\n\r\n"
).encode()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n%s\r\n{}"


@pytest.fixture
def played():
    return PlayedGateway(KEY)


def test_a_request_goes_through_and_its_answer_comes_back(played: PlayedGateway):
    """The positive control."""
    (link, service), (client, transport) = played.link(), played.connect()
    client.data_received(GET)
    assert service.written.startswith(b"GET /v1/affiliates/network HTTP/1.1\r\nhost: service:80")
    link.data_received(OK % b"")
    assert transport.written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert transport.written.endswith(b"{}")
    assert played.gateway.in_flight == 0


def test_who_left_while_a_request_was_to_be_sent_again_is_not_asked_for(played: PlayedGateway):
    """Neither is it sent on a link that comes later, nor is anything kept of it."""
    (link, _), (client, _) = played.link(), played.connect()
    client.data_received(GET)
    link.data_received(OK % b"")
    client.data_received(GET)
    link.connection_lost(None)
    assert played.pool.waiting == 1
    client.connection_lost(None)
    assert played.pool.waiting == 0
    assert played.gateway.in_flight == 0
    _, late = played.link()
    assert late.written == b""


def test_no_cache_keeps_an_answer_unless_its_service_decides(played: PlayedGateway):
    """One between us and partners keys by path: it must not show one's answer to another."""
    (link, _), (client, transport) = played.link(), played.connect()
    for said, told in ((b"", b"no-store"), (b"Cache-Control: max-age=60\r\n", b"max-age=60")):
        transport.written = b""
        client.data_received(GET)
        link.data_received(OK % said)
        assert transport.written.count(b"cache-control: ") == 1
        assert b"cache-control: " + told + b"\r\n" in transport.written
    transport.written = b""
    client.data_received(b"GET /v1/nothing HTTP/1.1\r\nHost: a\r\n\r\n")
    assert transport.written.startswith(b"HTTP/1.1 404 ")
    assert b"cache-control: no-store\r\n" in transport.written


def test_a_service_that_is_down_does_not_flood_the_log(played: PlayedGateway, caplog):
    """One line a second for each service and reason, which says for how many it stands."""
    caplog.set_level(logging.WARNING)

    def fail() -> None:
        (link, _), (client, transport) = played.link(), played.connect()
        client.data_received(GET)
        link.data_received(b"garbage\r\n\r\n")
        assert transport.written.startswith(b"HTTP/1.1 502 ")
        client.connection_lost(None)

    for _ in range(50):
        fail()
    assert len(caplog.records) == 1
    played.clock.advance(1.5)
    played.deadlines.tick()
    fail()
    assert [record.times for record in caplog.records] == [1, 50]
    failures = [
        line
        for line in played.metrics.render().decode().splitlines()
        if line.startswith("gateway_upstream_failures_total{")
    ]
    assert failures == ['gateway_upstream_failures_total{reason="broken",service="reporting"} 51.0']
