"""Protects the wire form of errors, and what the public doors tell strangers."""

import httpx
import pytest
from fastapi import Depends
from pydantic import BaseModel, ConfigDict

from shared.clock import ManualClock
from shared.errors import (
    ConflictError,
    ForbiddenError,
    TooManyError,
    UnauthenticatedError,
    UnavailableError,
)
from shared.http import IdentityCheck, Operations, new_app
from shared.identity import HEADER, Identity, IdentitySigner


def _client(app, client=("127.0.0.1", 1)) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=client)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def _failing(error: Exception):
    app = new_app("t", "d")

    @app.get("/x")
    async def x() -> None:
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ForbiddenError(), 403, "Forbidden"),
        (UnauthenticatedError(), 401, "Unable to authenticate request"),
        (ConflictError("taken"), 409, "taken"),
        (TooManyError(retry_after_seconds=3), 429, "Too many requests."),
        (UnavailableError("Postgres at db:5432 is down"), 503, "Temporarily unavailable."),
    ],
)
async def test_errors_carry_their_text_under_every_known_name(error, status, text):
    """Deployed clients read `Error`, `error` or `message`; insides are not told."""
    async with _client(_failing(error)) as client:
        answer = await client.get("/x", headers={"x-request-id": "r1"})
    assert answer.status_code == status
    assert answer.json() == {"Error": text, "error": text, "message": text}
    assert answer.headers["x-request-id"] == "r1"
    assert ("retry-after" in answer.headers) == (status in (429, 503))


@pytest.mark.logs_errors
async def test_a_bug_is_a_plain_500(caplog):
    """No stack trace reaches a caller; the log has it with the request's id."""
    async with _client(_failing(ZeroDivisionError("secret inside"))) as client:
        answer = await client.get("/x")
    assert answer.status_code == 500
    assert answer.json()["error"] == "Internal error"
    assert "secret inside" not in answer.text
    assert any(record.getMessage() == "bug" for record in caplog.records)


async def test_an_unknown_path_is_not_found_in_wire_form():
    """404 has the same form as every other error."""
    async with _client(new_app("t", "d")) as client:
        answer = await client.get("/nothing")
    assert (answer.status_code, answer.json()["Error"]) == (404, "Not Found")


async def test_operations_answer_local_callers_only():
    """A partner at a public door learns nothing about the inside."""
    missing: dict[str, str] = {"replica": "loading"}
    app = Operations(new_app("t", "d"), lambda: missing, lambda: b"metric 1\n")
    async with _client(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        not_ready = await client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["missing"]) == (503, missing)
        missing.clear()
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/metrics")).text == "metric 1\n"
    async with _client(app, client=("203.0.113.9", 1)) as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 404


async def test_a_service_demands_the_identity_a_door_signed():
    """A request around the gateway is refused; one through it is known."""
    signer, clock = IdentitySigner("a secret of 16+ bytes"), ManualClock()
    check = IdentityCheck(signer, clock)
    app = new_app("t", "d")

    @app.get("/x")
    async def x(identity: Identity = Depends(check)) -> int:  # noqa: B008
        return identity.network_affiliate_id

    identity = Identity(
        network_id=1,
        network_affiliate_id=2,
        key_id="k",
        request_id="r",
        client_ip="203.0.113.9",
        method="GET",
        path="/x",
        expires_at=int(clock.time()) + 30,
    )
    async with _client(app) as client:
        refused = await client.get("/x")
        assert refused.status_code == 401
        assert refused.json()["error"] == "No Authentication Method Found"
        assert (await client.get("/x", headers={HEADER: signer.sign(identity)})).json() == 2
        clock.advance(31)
        assert (await client.get("/x", headers={HEADER: signer.sign(identity)})).status_code == 401


async def test_many_problems_get_a_short_answer():
    """Neither their number nor the names that a caller makes up come back in full."""
    app = new_app("t", "d")

    class Wanted(BaseModel):
        model_config = ConfigDict(extra="forbid")

    @app.post("/x")
    async def x(body: Wanted) -> None:
        raise AssertionError(body)

    async with _client(app) as client:
        answer = await client.post(
            "/x", json={f"{number:03}{'x' * 500}": 1 for number in range(99)}
        )
    text = answer.json()["message"]
    assert answer.status_code == 400
    assert text.startswith(
        f"Invalid parameters. 000{'x' * 57}: Extra inputs are not permitted; 001"
    )
    assert text.endswith("; and 89 more")
    assert len(text) < 1_200
