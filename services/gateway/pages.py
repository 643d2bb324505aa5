"""The pages for partners, at `/docs`: how to use the API, and its OpenAPI document.

They need no key, say nothing about any network, and are read and compressed once, when this is
made. Every address may ask as often as for routes that take a token. A page loads nothing and runs
nothing: its policy allows the one style that it holds.
"""

import base64
import gzip
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Final

from services.gateway.domain import (
    TOKEN_POLICY,
    RawHeaders,
    Rejection,
    over_budget,
    trimmed,
    values_of,
)
from services.gateway.http1.wire import RequestHead
from services.gateway.limiter import Limiter
from shared.access import ClientAddresses, Network
from shared.clock import Clock
from shared.events import Budget

FOLDER: Final = "services.gateway.docs"
FILES: Final = {
    "/docs": "index.html",
    "/docs/using-your-api-key": "using-your-api-key.html",
    "/docs/secret-scanning": "secret-scanning.html",
    "/docs/openapi.json": "openapi.json",
}
FRESH_SECONDS: Final = 300
"""How long a browser need not ask again; a release is seen by then."""
_TYPES: Final = {"html": b"text/html; charset=utf-8", "json": b"application/json"}
_METHODS: Final = ("GET", "HEAD")

Answer = tuple[int, Sequence[tuple[bytes, bytes]], bytes]
"""Status, headers and body."""


@dataclass(frozen=True, slots=True)
class Form:
    """A page as it goes over the wire.

    Attributes:
        etag: differs between forms of one page.
        headers: of its answers, beside the tag.
        body: compressed or not, as the headers say.
    """

    etag: bytes
    headers: RawHeaders
    body: bytes

    def answer(self, wanted: str | None) -> Answer:
        """The whole page, or 304 to whom has it; `wanted` is `If-None-Match`."""
        headers = [(b"etag", self.etag), *self.headers]
        if wanted is not None and _matches(wanted, self.etag.decode()):
            return HTTPStatus.NOT_MODIFIED, headers, b""
        return HTTPStatus.OK, headers, self.body


class Pages:
    """Answers for `/docs`.

    Args:
        clock: the time.
        budget: how often an address may ask.
        trusted: our own proxies.

    Raises:
        FileNotFoundError: the pages were not installed with the gateway.
    """

    def __init__(self, clock: Clock, budget: Budget, trusted: tuple[Network, ...]) -> None:
        self._budget = budget
        self._asked = Limiter(clock)
        self._clients = ClientAddresses(trusted)
        contents = {path: (files(FOLDER) / name).read_bytes() for path, name in FILES.items()}
        self._forms = {path: _forms(FILES[path], content) for path, content in contents.items()}

    def has(self, path: str) -> bool:
        """Whether a page is there, with or without a trailing slash."""
        return path.startswith("/docs") and trimmed(path) in self._forms

    def answer(self, head: RequestHead, peer: str) -> Answer:
        """What a request for a page that is there is answered."""
        if head.line.method not in _METHODS:
            allow = ((b"allow", b", ".join(name.encode() for name in _METHODS)),)
            status = HTTPStatus.METHOD_NOT_ALLOWED
            return _refused(Rejection(status, "Method Not Allowed", "method", allow))
        address = self._clients.of(peer, values_of(head.fields.headers, b"x-forwarded-for"))
        verdict = self._asked.take(address, self._budget)
        if not verdict.admitted:
            return _refused(over_budget(verdict, TOKEN_POLICY))
        plain, packed = self._forms[trimmed(head.line.path)]
        form = packed if _takes_gzip(values_of(head.fields.headers, b"accept-encoding")) else plain
        wanted = values_of(head.fields.headers, b"if-none-match")
        return form.answer(", ".join(wanted) if wanted else None)


def _forms(name: str, content: bytes) -> tuple[Form, Form]:
    """A page plain and compressed."""
    headers = [
        (b"content-type", _TYPES[name.rpartition(".")[2]]),
        (b"content-security-policy", _policy(content)),
        (b"cache-control", b"public, max-age=%d" % FRESH_SECONDS),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
    ]
    tag = hashlib.sha256(content).hexdigest()[:16].encode()
    packed = gzip.compress(content, 9, mtime=0)
    encoded = [*headers, (b"content-encoding", b"gzip")]
    return Form(b'"%b"' % tag, headers, content), Form(b'"%b-gzip"' % tag, encoded, packed)


def _policy(content: bytes) -> bytes:
    """A Content-Security-Policy that allows the style of a page, and nothing else."""
    policy = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    for style in re.findall(rb"<style>(.*?)</style>", content, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(style).digest())
        policy += b"; style-src 'sha256-%b'" % digest
    return policy


def _refused(rejection: Rejection) -> Answer:
    headers = ((b"content-type", b"application/json"), *rejection.headers)
    return rejection.status, headers, rejection.body()


def _takes_gzip(accepted: Sequence[str]) -> bool:
    """Whether `Accept-Encoding` names gzip, and not with a weight of 0."""
    codings = (coding for value in accepted for coding in value.lower().split(","))
    return any(
        re.fullmatch(r"\s*gzip\s*(;\s*q=(0\.\d*[1-9]\d*|1(\.0*)?)\s*)?", one) for one in codings
    )


def _matches(wanted: str, etag: str) -> bool:
    """Whether `If-None-Match` lists the tag; compared weakly, as it has to be."""
    tags = (tag.strip().removeprefix("W/") for tag in wanted.split(","))
    return any(tag in ("*", etag) for tag in tags)
