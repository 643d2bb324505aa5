"""What tests of the operators' command share: a scripted door, a real one, a run of the command."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from deploy.local.ports import free_ports
from tests.backends import ROOT
from tests.keys_parts import Platform
from tests.waiting import DEADLINE_SECONDS
from tools.cli import main


@dataclass(frozen=True)
class Call:
    """A request as the door got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Answer:
    """What the door answers: a body, `cut` in the middle or not given at all (`drop`)."""

    body: Any = None
    status: int = 200
    cut: bool = False
    drop: bool = False


@dataclass
class ScriptedDoor:
    """A real HTTP server that answers from a list and remembers what it was asked."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def will(self, *answers: Answer) -> None:
        """Answer so from now on, in this order."""
        self.answers = list(answers)


@contextmanager
def scripted_door() -> Iterator[ScriptedDoor]:
    """A door on a port of its own until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.door = door = ScriptedDoor(f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        door: ScriptedDoor = self.server.door
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(content) if content else None
        door.calls.append(Call(self.command, self.path, headers, body))
        self.close_connection = True
        answer = door.answers.pop(0)
        if not answer.drop:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        content = (
            answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        )
        self.send_response(answer.status)
        self.send_header("content-length", str(len(content) + (1 if answer.cut else 0)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the server's words

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Portico:
    """The operators' command in this process, with what it prints."""

    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, *words: str) -> Ran:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["portico", *words])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = self.capsys.readouterr()
        return Ran(status, out, err)


@contextmanager
def gateway(platform: Platform) -> Iterator[str]:
    """A gateway process before the key service of `platform`; its base URL."""
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    variables = {"GATEWAY_PORT": str(port), "GATEWAY_UPSTREAM_KEYS": platform.url}
    log = platform.home / "gateway.log"
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"],
            cwd=ROOT,
            env=platform.environment(**variables, GATEWAY_DRAIN_SECONDS="1"),
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: _is_ready(url), log)
        yield url
    finally:
        child.terminate()
        child.wait(30)


def wait_until(condition: Callable[[], bool], told: object = "") -> None:
    """Wait until `condition` holds; fails with what `told` says."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        text = told.read_text() if isinstance(told, Path) else told
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:.0f} s: {text}"
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", verify=False).is_success
    except httpx.TransportError:
        return False
