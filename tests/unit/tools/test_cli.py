"""`portico` tells what to try in lines that work when pasted, and keeps secrets to their owner."""

import json
import shlex
import stat
from pathlib import Path

import httpx
import jwt
import pytest

from deploy.local import secrets
from shared.errors import RejectedError, SetupError, UnavailableError
from tools.cli import door, guide, issuer
from tools.cli.config import settings, write_endpoints
from tools.cli.keyfile import KnownKey, read_key, write_key

KNOWN = KnownKey(201, 1001, "key_1", "aff_secret")
URLS = {"gateway": "http://127.0.0.1:1", "firehose": "http://127.0.0.1:2"}


def test_pasted_lines_are_whole_commands_with_valid_bodies() -> None:
    """Quotes survive the shell, and each JSON body is one."""
    found = guide.chapters(URLS, KNOWN, 1_767_225_600.0, "portico")
    lines = [line for chapter in found for line in chapter.lines]
    curls = [shlex.split(line) for line in lines if line.startswith("curl")]
    assert len(curls) >= 6
    for words in curls:
        if "-d" in words:
            assert isinstance(json.loads(words[words.index("-d") + 1]), dict)
    report = json.loads(curls[0][curls[0].index("-d") + 1])
    assert report["from"] == "2025-12-26"
    assert report["to"] == "2026-01-01"
    assert any("/v1/firehose/stream" in line for line in lines)
    assert any("revoke" in line for line in lines)
    assert any("/metrics" in line for line in lines)


def test_the_key_of_the_first_steps_is_its_owners_alone(tmp_path: Path) -> None:
    """The file is readable by nobody else, and printing the object shows no secret."""
    assert read_key(tmp_path) is None
    write_key(tmp_path, KNOWN)
    write_key(tmp_path, KNOWN)
    assert read_key(tmp_path) == KNOWN
    assert stat.S_IMODE((tmp_path / "partner-key.json").stat().st_mode) == 0o600
    assert "aff_secret" not in repr(KNOWN)
    (tmp_path / "partner-key.json").write_text("{")
    with pytest.raises(SetupError, match="delete it"):
        read_key(tmp_path)


def test_a_token_of_the_local_issuer_says_what_was_asked(tmp_path: Path) -> None:
    """Its signature is that of the key set which the services read."""
    with pytest.raises(SetupError, match="no local token issuer"):
        issuer.sign(tmp_path, issuer.administrator(201))
    made = secrets.ensure(tmp_path / "secrets")
    token = issuer.sign(tmp_path, issuer.administrator(201), lifetime_seconds=60)
    (key,) = jwt.PyJWKSet.from_json(made.jwks.read_text()).keys
    claims = jwt.decode(token, key, algorithms=["EdDSA"], audience="portico")
    assert claims["network"] == 201
    assert claims["super_user"] is True
    assert claims["exp"] - claims["iat"] == 60


def test_commands_find_a_running_platform_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment wins over what `run` wrote down, that over the usual ports."""
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
    for name in ("PORTICO_GATEWAY", "KAFKA_BOOTSTRAP"):
        monkeypatch.delenv(name, raising=False)
    assert settings().gateway == "http://127.0.0.1:8080"
    write_endpoints(tmp_path, {"gateway": "http://127.0.0.1:9", "kafka_bootstrap": "127.0.0.1:8"})
    assert settings().gateway == "http://127.0.0.1:9"
    assert settings().kafka_bootstrap == "127.0.0.1:8"
    monkeypatch.setenv("PORTICO_GATEWAY", "http://elsewhere.example")
    assert settings().gateway == "http://elsewhere.example"


def test_nobody_there_is_told_with_what_to_do() -> None:
    """No stack trace where the platform is simply not running."""
    with pytest.raises(UnavailableError, match="portico run"):
        door.Door("http://127.0.0.1:9", {}).call("GET", "/v1/networks/apikeys")


@pytest.mark.parametrize(
    ("status", "body", "kind", "told"),
    [
        (403, b'{"message": "Forbidden"}', RejectedError, "403 Forbidden"),
        (409, b"plain words", RejectedError, "409 plain words"),
        (404, b"[1]", RejectedError, "404"),
        (503, b'{"message": "Temporarily unavailable."}', UnavailableError, "503"),
    ],
)
def test_a_refusal_shows_status_and_reason(
    status: int, body: bytes, kind: type[Exception], told: str
) -> None:
    """Whatever form the answer has."""
    error = door.refusal(httpx.Response(status, content=body))
    assert isinstance(error, kind)
    assert told in str(error)
