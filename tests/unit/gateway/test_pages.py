"""Protects the pages for partners: whole, harmless, true, and cheap to ask for again."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from services.gateway.http1.wire import HeadLimits, parse_request
from services.gateway.pages import FILES, Pages
from shared.clock import ManualClock
from shared.events import Budget
from shared.routes import ROUTES
from tools.docs.partner import is_partners, references

HTML = sorted(path for path, name in FILES.items() if name.endswith(".html"))
LIMITS = HeadLimits(8_000, 8_000)
LOADING = {"script", "link", "img", "iframe", "object", "embed", "source", "video", "form", "base"}


@pytest.fixture(scope="module")
def pages():
    return Pages(ManualClock(0.0), Budget(rate=1, burst=1_000), ())


def ask(pages: Pages, path: str, *lines: str, method: str = "GET", peer: str = "203.0.113.7"):
    """Status, headers and body."""
    block = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: a", *lines))
    head = parse_request(block.encode(), LIMITS)
    assert pages.has(head.line.path)
    status, headers, body = pages.answer(head, peer)
    assert len(dict(headers)) == len(headers)
    return status, dict(headers), body


class _Page(HTMLParser):
    """The ids, links and elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(value or "")
            elif name == "href":
                self.links.append(value or "")


def read(pages: Pages, path: str) -> _Page:
    return _Page(ask(pages, path)[2].decode())


def test_only_the_pages_themselves_are_there(pages: Pages):
    """A trailing slash is overlooked; whatever else begins alike is an unknown path."""
    assert pages.has("/docs")
    assert pages.has("/docs/")
    assert pages.has("/docs/openapi.json")
    for path in ("/doc", "/docs//", "/docs/openapi.yaml", "/docs/../docs", "/docs/index.html"):
        assert not pages.has(path)


@pytest.mark.parametrize("path", HTML)
def test_a_page_runs_and_loads_nothing(pages: Pages, path):
    """Its policy would forbid it; nor does it try, so that it works without any network."""
    _, headers, body = ask(pages, path)
    page = _Page(body.decode())
    assert not page.elements & LOADING
    assert not {name for name in page.attributes if name.startswith("on") or name == "style"}
    assert b"@import" not in body
    assert b"url(" not in body
    (style,) = re.findall(rb"<style>(.*?)</style>", body, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert headers[b"content-security-policy"].decode() == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src 'sha256-{digest}'"
    )


@pytest.mark.parametrize("path", HTML)
def test_every_link_of_a_page_leads_somewhere(pages: Pages, path):
    """To another page or heading of ours; an id is there once."""
    page = read(pages, path)
    assert len(set(page.ids)) == len(page.ids)
    assert len(page.links) > 5
    for link in page.links:
        target, _, anchor = link.partition("#")
        assert not target or pages.has(target), link
        if anchor:
            assert anchor in read(pages, target or path).ids, link


def test_the_reference_shows_what_partners_may_call_and_nothing_else(pages: Pages):
    """Every route of theirs, and none of staff's or operators'."""
    ours = {(route.method, route.template) for route in ROUTES if is_partners(route)}
    text = re.sub(r"<[^>]+>", "", ask(pages, "/docs")[2].decode())
    document = json.loads(ask(pages, "/docs/openapi.json")[2])
    assert ours == {
        (method.upper(), path) for path, found in document["paths"].items() for method in found
    }
    assert ours
    for method, path in ours:
        assert f"{method} {path}" in text
    assert "/v1/networks" not in text
    assert "/v1/audit" not in text


def test_the_document_has_the_shapes_it_needs_and_no_others(pages: Pages):
    """None of a staff route's members gets to partners by its shape."""
    document = json.loads(ask(pages, "/docs/openapi.json")[2])
    schemas = document["components"]["schemas"]
    assert set(references(document)) == set(schemas)
    assert document["openapi"].startswith("3.1")
    assert [server["url"] for server in document["servers"]] == ["/"]


def test_who_has_a_page_is_told_that_it_is_the_same(pages: Pages):
    """304 without a body to its tag, in any of the forms of the header."""
    status, headers, body = ask(pages, "/docs")
    assert (status, headers[b"cache-control"]) == (200, b"public, max-age=300")
    tag = headers[b"etag"].decode()
    for wanted in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        status, again, nothing = ask(pages, "/docs", f"If-None-Match: {wanted}")
        assert (status, nothing, again[b"etag"]) == (304, b"", headers[b"etag"])
    status, _, again = ask(pages, "/docs", 'If-None-Match: "other"')
    assert (status, again) == (200, body)


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [
        ("gzip", True),
        ("br;q=1.0, GZIP;q=0.8, *;q=0.1", True),
        ("deflate, gzip;q=1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("identity", False),
        ("gzipped", False),
    ],
)
def test_a_page_is_compressed_for_who_takes_that(pages: Pages, accepted, is_packed):
    """Each form has a tag of its own, and caches are told that there are two."""
    _, plain, body = ask(pages, "/docs")
    _, headers, found = ask(pages, "/docs", f"Accept-Encoding: {accepted}")
    assert headers[b"vary"] == b"accept-encoding"
    assert (headers.get(b"content-encoding") == b"gzip") == is_packed
    assert (headers[b"etag"] != plain[b"etag"]) == is_packed
    assert (gzip.decompress(found) if is_packed else found) == body


def test_a_page_is_only_read():
    """Other methods are told so, and one address may not ask without end."""
    pages = Pages(ManualClock(0.0), Budget(rate=1, burst=2), ())
    status, headers, body = ask(pages, "/docs", method="POST")
    assert (status, headers[b"allow"]) == (405, b"GET, HEAD")
    assert json.loads(body)["error"] == "Method Not Allowed"
    assert [ask(pages, "/docs")[0] for _ in range(3)] == [200, 200, 429]
    assert ask(pages, "/docs")[1][b"retry-after"] == b"1"
    assert ask(pages, "/docs", peer="203.0.113.8")[0] == 200


def _texts(pages: Pages) -> Iterator[bytes]:
    for path in FILES:
        yield ask(pages, path)[2]


def test_the_pages_are_small(pages: Pages):
    """All together, compressed: less than one picture."""
    assert sum(len(gzip.compress(text)) for text in _texts(pages)) < 150_000
