"""A real gateway process between raw sockets: a client that sends any bytes, a service that may be mad.

Everything here blocks and is bounded by `DEADLINE_SECONDS`, so that a hang fails a test. The service
behind takes only requests that a strict reader understands, and keeps what it could not read in
`violations`: whatever a client sends, that list must stay empty.
"""

import asyncio
import contextlib
import json
import os
import re
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil

from deploy.local.ports import free_ports
from shared import topics
from shared.events import (
    AccessSummary,
    Budget,
    Event,
    KeyState,
    NetworkState,
    PartnerAccess,
    encode,
)
from shared.kafka import open_producer
from shared.partner_key import PartnerKey
from tests.backends import ROOT
from tests.gateway_parts import Gate
from tests.gateway_process import tables
from tests.waiting import DEADLINE_SECONDS

SECRET = "a secret of sixteen bytes"
ANSWER_BYTES_MAX = 64 * 1024 * 1024
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


# --- reading HTTP strictly ------------------------------------------------------------------------


class NotHttpError(Exception):
    """What was read is no message that a strict reader understands."""


class EndedError(Exception):
    """The other side closed, or broke, the connection where a message was to begin or go on."""


@dataclass
class Message:
    """A request or an answer.

    Attributes:
        start: the first line.
        headers: names in lower case, in their order.
        body: without its framing.
    """

    start: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def status(self) -> int:
        """An answer's status."""
        return int(self.start.split(" ")[1])

    def values(self, name: str) -> list[str]:
        """The values of all headers called `name`."""
        return [value for key, value in self.headers if key == name]

    def value(self, name: str) -> str | None:
        """The value of the only header called `name`."""
        found = self.values(name)
        assert len(found) < 2, f"{name} is there {len(found)} times"
        return found[0] if found else None

    @property
    def json(self) -> dict:
        """The body of an answer in JSON."""
        return json.loads(self.body)


class Reader:
    """Reads messages from a socket, byte for byte as RFC 9112 writes them."""

    def __init__(self, sock: socket.socket) -> None:
        self.held = b""
        self._sock = sock

    def more(self) -> bytes:
        """What comes next.

        Raises:
            EndedError: nothing does.
            TimeoutError: nothing came in time.
        """
        try:
            data = self._sock.recv(65_536)
        except ConnectionError as error:
            raise EndedError("broken") from error
        if not data:
            raise EndedError("closed")
        return data

    def until(self, end: bytes) -> bytes:
        """Everything up to `end`, which is taken too."""
        while end not in self.held:
            if len(self.held) > ANSWER_BYTES_MAX:
                raise NotHttpError("no end")
            self.held += self.more()
        found, _, self.held = self.held.partition(end)
        return found

    def exactly(self, length: int) -> bytes:
        """So many bytes."""
        pieces = [self.held]
        missing = length - len(self.held)
        while missing > 0:
            pieces.append(self.more())
            missing -= len(pieces[-1])
        found = b"".join(pieces)
        self.held = found[length:]
        return found[:length]

    def head(self) -> Message:
        """A first line and headers."""
        first, *lines = self.until(b"\r\n\r\n").split(b"\r\n")
        headers = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if (
                not colon
                or not _TOKEN.fullmatch(name)
                or re.search(rb"[\x00-\x08\x0a-\x1f]", value)
            ):
                raise NotHttpError(f"header {line!r}")
            headers.append((name.decode().lower(), value.strip().decode("latin-1")))
        return Message(first.decode("latin-1"), headers)

    def body(self, head: Message, *, to_close: bool) -> bytes:
        """The body that `head` announces; `to_close`: without a length it lasts until the end."""
        lengths, codings = head.values("content-length"), head.values("transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise NotHttpError(f"two lengths {lengths} {codings}")
        if codings:
            if codings != ["chunked"]:
                raise NotHttpError(f"coding {codings}")
            return b"".join(self.chunks())
        if lengths:
            if not lengths[0].isascii() or not lengths[0].isdigit():
                raise NotHttpError(f"length {lengths}")
            return self.exactly(int(lengths[0]))
        return self._to_end() if to_close else b""

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body; trailers are refused."""
        while True:
            line = self.until(b"\r\n")
            if not re.fullmatch(rb"[0-9a-fA-F]{1,16}", line):
                raise NotHttpError(f"chunk size {line[:40]!r}")
            size = int(line, 16)
            data = self.exactly(size + 2)
            if not data.endswith(b"\r\n"):
                raise NotHttpError("a chunk longer than its size, or a trailer")
            if not size:
                return
            yield data[:-2]

    def _to_end(self) -> bytes:
        pieces = [self.held]
        with contextlib.suppress(EndedError):
            while True:
                pieces.append(self.more())
        self.held = b""
        return b"".join(pieces)


# --- the client ------------------------------------------------------------------------------------


class Wire:
    """A client's connection to the gateway."""

    def __init__(self, port: int, *, seconds: float = DEADLINE_SECONDS, source: str = "") -> None:
        self.sock = socket.create_connection(
            ("127.0.0.1", port), timeout=seconds, source_address=(source, 0) if source else None
        )
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = Reader(self.sock)

    def send(self, data: bytes) -> Self:
        """Send bytes; that the gateway has closed meanwhile is no failure here."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(data)
        return self

    def say_no_more(self) -> Self:
        """Close our half."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
        return self

    def head(self) -> Message:
        """The next answer's head, whatever its status."""
        return self._reader.head()

    def answer(self, *, to_head: bool = False) -> Message:
        """The next answer that is not 1xx.

        Args:
            to_head: the request was HEAD: no body follows.
        """
        message = self.head()
        while message.status < 200:
            message = self.head()
        if not to_head:
            self.read_body(message)
        return message

    def read_body(self, head: Message) -> None:
        """Read the body of the answer whose head was read."""
        if head.status not in (204, 304):
            head.body = self._reader.body(head, to_close=True)

    @property
    def held(self) -> bytes:
        """What was received and not yet read as part of an answer."""
        return self._reader.held

    def is_over(self) -> bool:
        """Whether the gateway ends the connection without another byte; waits for that."""
        if self._reader.held:
            return False
        try:
            self._reader.more()
        except EndedError:
            return True
        except TimeoutError:
            return False
        return False

    def everything(self) -> bytes:
        """All that the gateway sends until it ends the connection."""
        return self._reader._to_end()

    def chunks(self) -> Iterator[bytes]:
        """The chunks of an answer whose head was read."""
        return self._reader.chunks()

    def reset(self) -> None:
        """Leave without a farewell."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(
    target: str = "/v1/affiliates/network",
    *,
    method: str = "GET",
    key: PartnerKey | None = None,
    version: str = "HTTP/1.1",
    headers: tuple[str, ...] = (),
    body: bytes = b"",
) -> bytes:
    """A request as a client that behaves writes it; a body is declared by its length."""
    lines = [f"{method} {target} {version}", "Host: api.example", *headers]
    if key is not None:
        lines.append(f"X-Eflow-API-Key: {key.reveal()}")
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


# --- the service behind ------------------------------------------------------------------------------


@dataclass
class Seen:
    """A request that reached the service behind."""

    head: Message
    body: bytes = b""
    connection: int = 0
    is_whole: bool = False

    @property
    def target(self) -> str:
        """As it stands in the first line."""
        return self.head.start.split(" ")[1]


@dataclass
class Mad:
    """What the service behind has seen and been told.

    Attributes:
        seen: requests whose head was read, in order.
        violations: what came that was no request.
        left: targets of requests whose connection ended under them.
        go_on: for what waits for a word.
        taken: bytes of bodies read.
    """

    port: int
    seen: list[Seen] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    connections: int = 0
    taken: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)

    def was_left(self, what: str) -> bool:
        """Whether the gateway ended the connection of a request that asked for `what`."""
        return any(f"do={what}" in target for target in self.left)

    def forget(self) -> None:
        """Begin anew."""
        self.seen.clear()
        self.violations.clear()
        self.left.clear()
        self.taken = 0
        self.go_on.clear()


class _Handler(socketserver.BaseRequestHandler):
    """One connection; what it does with a request is named by the request's `do=`."""

    server: "_Server"

    def handle(self) -> None:
        mad = self.server.mad
        mad.connections += 1
        self.number = mad.connections
        self.request.settimeout(DEADLINE_SECONDS)
        self.reader = Reader(self.request)
        while self._serve_one(mad):
            pass

    def _serve_one(self, mad: Mad) -> bool:
        """Whether the connection goes on."""
        try:
            head = self.reader.head()
        except (EndedError, TimeoutError, OSError):
            if self.reader.held:
                mad.violations.append(f"half a request {self.reader.held[:200]!r}")
            return False
        except NotHttpError as error:
            mad.violations.append(str(error))
            return False
        if not re.fullmatch(r"[A-Z]+ /\S* HTTP/1\.1", head.start):
            mad.violations.append(head.start)
            return False
        self.seen = Seen(head, connection=self.number)
        mad.seen.append(self.seen)
        asked = parse_qs(urlsplit(self.seen.target).query)
        what = asked.get("do", ["tell"])[0]
        try:
            return bool(getattr(self, what)(mad))
        except NotHttpError as error:
            mad.violations.append(str(error))
        except (EndedError, OSError):
            mad.left.append(self.seen.target)
        return False

    def _take(self) -> None:
        self.seen.body = self.reader.body(self.seen.head, to_close=False)
        self.seen.is_whole = True

    def _say(self, data: bytes) -> None:
        self.request.sendall(data)

    def _ok(self, content: bytes = b"{}", extra: bytes = b"") -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s\r\n"
        self._say(head % (len(content), extra) + content)

    def _until_left(self, mad: Mad) -> bool:
        """Wait until the gateway leaves."""
        while True:
            self.reader.more()

    # what is asked for by name

    def tell(self, mad: Mad) -> bool:
        """The length of the body."""
        self._take()
        self._ok(json.dumps({"length": len(self.seen.body)}).encode())
        return True

    def stall(self, mad: Mad) -> bool:
        """Never answer."""
        return self._until_left(mad)

    def late(self, mad: Mad) -> bool:
        """Answer, but only after a while."""
        self._take()
        mad.go_on.wait(1.5)
        self._ok()
        return True

    def vanish(self, mad: Mad) -> bool:
        """Close without an answer."""
        return False

    def reset(self, mad: Mad) -> bool:
        """Break without an answer."""
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.request.close()
        return False

    def early(self, mad: Mad) -> bool:
        """Answer at once, whatever of the body is still to come; then close."""
        self._ok(b'{"early": true}', b"connection: close\r\n")
        return False

    def early_but_patient(self, mad: Mad) -> bool:
        """Answer at once, then read the rest of the body and keep the connection."""
        self._ok(b'{"early": true}')
        self._take()
        return True

    def half(self, mad: Mad) -> bool:
        """Less than was promised."""
        self._say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return False

    def half_chunked(self, mad: Mad) -> bool:
        """Chunks without an end."""
        self._say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        return False

    def half_reset(self, mad: Mad) -> bool:
        """Less than was promised, then a break."""
        self._say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        mad.go_on.wait(DEADLINE_SECONDS)
        return self.reset(mad)

    def stall_midway(self, mad: Mad) -> bool:
        """Half an answer and then nothing."""
        self._say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return self._until_left(mad)

    def to_the_end(self, mad: Mad) -> bool:
        """An answer without a length: it ends with the connection."""
        self._take()
        self._say(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nall there is")
        return False

    def too_much(self, mad: Mad) -> bool:
        """More than was promised: a second answer that nobody asked for."""
        self._take()
        forged = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"
        self._say(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntrue" + forged)
        return True

    def for_ever(self, mad: Mad) -> bool:
        """A stream without an end, 64 KB a piece."""
        self._say(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        while True:
            self._say(piece)
            mad.taken += 65_536

    def drip(self, mad: Mad) -> bool:
        """A head that comes byte by byte, as long as nobody minds."""
        for letter in b"HTTP/1.1 200 OK\r\nx-slow: " + b"y" * 10_000:
            self._say(bytes([letter]))
            if mad.go_on.wait(0.05):
                return False
        return False

    def take_slowly(self, mad: Mad) -> bool:
        """Read nothing of the body until told to."""
        mad.go_on.wait(DEADLINE_SECONDS)
        return self.tell(mad)

    def take_nothing(self, mad: Mad) -> bool:
        """Read nothing of the body, ever, and say nothing."""
        mad.go_on.wait(DEADLINE_SECONDS)
        return False

    def head_only(self, mad: Mad) -> bool:
        """To HEAD: a length, and no body."""
        self._say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        return True

    def continued(self, mad: Mad) -> bool:
        """Interim answers before the answer."""
        self._say(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._say(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        return self.tell(mad)

    def interim_for_ever(self, mad: Mad) -> bool:
        """Interim answers, and never the answer."""
        while not mad.go_on.wait(0.001):
            self._say(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    def upgrade(self, mad: Mad) -> bool:
        """Another protocol, which nobody asked for."""
        self._say(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n\x00"
        )
        return self._until_left(mad)

    def raw(self, mad: Mad) -> bool:
        """One of `RAW`, by number."""
        self._take()
        number = parse_qs(urlsplit(self.seen.target).query)["n"][0]
        self._say((RAW | WHOLE)[number])
        return False


RAW: dict[str, bytes] = {
    "noise": b"\x00\xff\xfe garbage\r\n\r\n" * 10,
    "http09": b"<html>hello</html>",
    "bad_version": b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "bad_status": b"HTTP/1.1 9999 OK\r\ncontent-length: 0\r\n\r\n",
    "status_600": b"HTTP/1.1 600 OK\r\ncontent-length: 0\r\n\r\n",
    "no_status": b"HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n",
    "two_lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 20\r\n\r\n{}",
    "both_lengths": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "bad_length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
    "huge_length": b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 30 + b"\r\n\r\n{}",
    "header_without_colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "nul_in_header": b"HTTP/1.1 200 OK\r\nx-a: b\x00c\r\ncontent-length: 2\r\n\r\n{}",
    "headers_without_end": b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"y" * 2_000_000,
    "many_headers": b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000 + b"content-length: 0\r\n\r\n",
    "nothing": b"",
    "half_a_line": b"HTTP/1.1 20",
}
"""Answers that are none: each must become a 502."""

_EMPTY = b"connection: close\r\ncontent-length: 2\r\n\r\n{}"
WHOLE: dict[str, bytes] = {
    "missing": b"HTTP/1.1 404 Not Found\r\n" + _EMPTY,
    "failed": b"HTTP/1.1 500 Internal Server Error\r\n" + _EMPTY,
    "claim": b"HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 1\r\nX-RateLimit-Remaining: 0\r\n"
    b'RateLimit-Policy: "mine";q=1\r\nratelimit: "mine";r=0;t=99\r\nX-Request-Id: mine\r\n'
    + _EMPTY,
}
"""Answers that pass."""


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, mad: Mad) -> None:
        self.mad = mad
        super().__init__(("127.0.0.1", mad.port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that a test broke is no news."""


@contextmanager
def mad_service() -> Iterator[Mad]:
    """The service behind, running."""
    mad = Mad(free_ports(1)[0])
    with _Server(mad) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield mad
        finally:
            mad.go_on.set()
            server.shutdown()
            thread.join()


# --- the gateway -----------------------------------------------------------------------------------


class Fort:
    """A gateway process with topics of its own, `mad` behind it.

    Args:
        bootstrap: Kafka's.
        prefix: of its topics' names.
        mad: the service behind.
        log: where its output goes.
        variables: settings.
    """

    def __init__(
        self, bootstrap: str, prefix: str, mad: Mad, log: Path, variables: Mapping[str, str]
    ) -> None:
        self.mad = mad
        self.port = free_ports(1)[0]
        self.tables = tables(prefix)
        self._bootstrap = bootstrap
        self._runner = asyncio.Runner()
        self._open = contextlib.AsyncExitStack()
        self._log = log
        self._versions = 0
        behind = f"http://127.0.0.1:{mad.port}"
        environment = {
            "PATH": os.environ["PATH"],
            "KAFKA_BOOTSTRAP": bootstrap,
            "IDENTITY_SECRETS": SECRET,
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_UPSTREAM_KEYS": behind,
            "GATEWAY_UPSTREAM_REPORTING": behind,
            "GATEWAY_UPSTREAM_AUDIT": behind,
            "GATEWAY_DRAIN_SECONDS": "2",
        }
        self._runner.run(topics.apply(bootstrap, table=list(self.tables.values())))
        producer = open_producer(bootstrap, client_id="owner")
        self._producer = self._runner.run(self._open.enter_async_context(producer))
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.gateway_process", prefix],
                cwd=ROOT,
                env=environment | variables,
                stdout=out,
                stderr=out,
            )
        self.process = psutil.Process(self._child.pid)

    def put_key(self, key: PartnerKey, key_id: str, **state: object) -> None:
        """Publish a key's state, of partner 7 of network 1 unless said otherwise."""
        fields = {
            "key_id": key_id,
            "version": self._next(),
            "digest": key.digest,
            "network_id": 1,
            "network_affiliate_id": 7,
            "integration": "warehouse",
        }
        self._put("keys", key_id, KeyState(**(fields | state)))

    def put_partner(self, network_id: int, network_affiliate_id: int, **access: object) -> None:
        """Publish a partner's access."""
        name = f"{network_id}:{network_affiliate_id}"
        fields = {"network_id": network_id, "network_affiliate_id": network_affiliate_id}
        value = PartnerAccess(**fields, version=self._next(), **access)
        self._put("partners", name, value)

    def put_network(self, network_id: int, affiliate: Budget, **state: object) -> None:
        """Publish a network's budgets."""
        value = NetworkState(
            network_id=network_id, version=self._next(), affiliate=affiliate, **state
        )
        self._put("networks", str(network_id), value)

    def _next(self) -> int:
        self._versions += 1
        return self._versions

    def _put(self, table: str, key: str, value: Event) -> None:
        topic = self.tables[table].name
        record = self._producer.send_and_wait(topic, encode(value), key=key.encode())
        self._runner.run(record)

    def wire(self, *, seconds: float = DEADLINE_SECONDS, source: str = "") -> Wire:
        """A connection to it, from an address of this machine."""
        return Wire(self.port, seconds=seconds, source=source)

    def ask(self, data: bytes, *, source: str = "") -> Message:
        """The answer to one request on a connection of its own."""
        with self.wire(source=source) as wire:
            return wire.send(data).answer()

    def summaries(self) -> list[AccessSummary]:
        """All access summaries published so far."""
        told = Gate(self._bootstrap, behind=None, tables=self.tables, producer=None).summaries()
        return [summary for _, summary in self._runner.run(told)]

    def until_status(self, status: int, data: bytes) -> Message:
        """Ask until the answer has the status."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (answer := self.ask(data)).status != status:
            assert time.monotonic() < deadline, answer
            time.sleep(0.02)
        return answer

    def until_ready(self) -> Self:
        """Wait until it may receive traffic."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._is_ready():
            assert self._child.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            return (
                httpx.get(f"http://127.0.0.1:{self.port}/readyz", verify=False).status_code == 200
            )
        except httpx.TransportError:
            return False

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        text = httpx.get(f"http://127.0.0.1:{self.port}/metrics", verify=False).text
        lines = [line for line in text.splitlines() if re.match(rf"{name}(\{{|\s)", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def resident_bytes(self) -> int:
        """Its memory."""
        return self.process.memory_info().rss

    def errors(self) -> list[str]:
        """The lines of its log that tell of an error."""
        return [
            line
            for line in self._log.read_text().splitlines()
            if not line.startswith("{") or json.loads(line)["level"] in ("error", "critical")
        ]

    def close(self) -> None:
        """Tell it to stop, and wait."""
        self._runner.run(self._open.aclose())
        self._runner.close()
        self._child.terminate()
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


@contextmanager
def fort(bootstrap: str, prefix: str, folder: Path, **variables: str) -> Iterator[Fort]:
    """A running gateway, ready."""
    with mad_service() as mad:
        found = Fort(bootstrap, prefix, mad, folder / "gateway.log", variables)
        try:
            yield found.until_ready()
        finally:
            found.close()


def until(holds: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until `holds`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.01)
