"""Protects partners from our bugs: no stack trace, no hang, and a request id to ask about."""

import json

import pytest

from shared.http import BugAnswers


async def _play(app) -> list[dict]:
    sent: list[dict] = []

    async def send(message) -> None:
        sent.append(message)

    await BugAnswers(app)({"type": "http", "method": "GET", "headers": []}, None, send)
    return sent


@pytest.mark.logs_errors
async def test_a_bug_is_a_500_in_wire_form_with_the_requests_id(caplog):
    """What broke is in the log, under the same id."""
    ids: list[str] = []

    async def app(scope, *_) -> None:
        ids.append(scope["request_id"])
        raise ZeroDivisionError("secret detail")

    start, body = await _play(app)
    assert start["status"] == 500
    assert (b"x-request-id", ids[0].encode()) in start["headers"]
    assert json.loads(body["body"])["error"] == "Internal error"
    assert [record.request_id for record in caplog.records if record.msg == "bug"] == ids


@pytest.mark.logs_errors
async def test_after_the_head_nothing_is_added():
    """The server breaks the connection: half an answer must not read as a whole one."""
    head = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(*edge) -> None:
        await edge[-1](head)
        raise ZeroDivisionError

    assert await _play(app) == [head]


async def test_what_works_is_left_alone():
    """The positive control."""
    messages = [{"type": "http.response.start"}, {"type": "http.response.body"}]

    async def app(*edge) -> None:
        for message in messages:
            await edge[-1](message)

    assert await _play(app) == messages
