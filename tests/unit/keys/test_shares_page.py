"""Protects the page: it says how a link stands and when, is safe in any browser, and runs nothing."""

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import httpx
import pytest

from services.keys.shares import api as share_routes
from services.keys.shares.page import Pages, View, moment
from shared.errors import UnavailableError
from shared.http import new_app
from shared.identity import Identity
from shared.partner_key import generate
from tests.keys_parts import KEY, NOW
from tests.shares_parts import SECRET, SHARE, WITH_PASSPHRASE

PAGES = Pages()
HOSTILE = "<script>alert(1)</script>\"' onload=x"
IDENTITY = Identity(request_id="r", client_ip="192.0.2.7", method="", path="", expires_at=0)
WHEN = "31 December 2025, 23:59:30 UTC"


def view(outcome, share=SHARE, **more) -> View:
    return View(share, more.pop("key", KEY), "Cedar & Co", outcome, **more)


def ended(status, **more):
    return replace(SHARE, status=status, ended_at=NOW - 30, **more)


def text_of(answer) -> str:
    return answer.body.decode()


class Outline(HTMLParser):
    """The elements of a page and their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


VIEWS = {
    "open": view("open"),
    "with a passphrase": view("open", WITH_PASSPHRASE),
    "refused": view("refused", replace(WITH_PASSPHRASE, wrong_passphrases=4)),
    "shown": view("shown", secret=generate()),
    "used": view("used", ended("used")),
    "withdrawn": view("withdrawn", ended("withdrawn")),
    "locked": view("locked", ended("locked")),
    "expired": view("expired", replace(SHARE, expires_at=NOW - 30)),
    "ended": view("ended", key=replace(KEY, status="revoked", ended_at=NOW - 30)),
    "suspended": view("suspended"),
}
ANSWERS = {name: PAGES.of(one) for name, one in VIEWS.items()} | {
    "unknown": PAGES.unknown(),
    "malformed": PAGES.malformed(),
    "unavailable": PAGES.unavailable(3),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_every_page_stays_out_of_caches_frames_referrers_and_searches(name):
    """And allows its own style alone: its hash is the policy's, nothing is loaded or run."""
    answer = ANSWERS[name]
    headers = answer.headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-robots-tag"].startswith("noindex")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    style = re.search(r"<style>(.*?)</style>", text_of(answer), re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    outline = Outline(text_of(answer))
    names = {tag for tag, _ in outline.found}
    assert not names & {"script", "link", "img", "iframe", "base", "a", "object"}
    attributes = {key for _, found in outline.found for key in found}
    assert not attributes & {"style", "src", "href", "action"}
    assert not [key for key in attributes if key.startswith("on")]


@pytest.mark.parametrize("name", ANSWERS)
def test_every_page_can_be_read_by_everybody(name):
    """Language, one heading, a width that fits phones, and a label for each field."""
    outline = Outline(text_of(ANSWERS[name]))
    assert outline.of("html") == [{"lang": "en"}]
    assert len(outline.of("h1")) == len(outline.of("main")) == len(outline.of("title")) == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in outline.of(
        "meta"
    )
    labelled = {label["for"] for label in outline.of("label")}
    assert {field["id"] for field in outline.of("input")} == labelled


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("open", 200),
        ("with a passphrase", 200),
        ("shown", 200),
        ("refused", 403),
        ("suspended", 403),
        ("unknown", 404),
        ("used", 410),
        ("withdrawn", 410),
        ("locked", 410),
        ("expired", 410),
        ("ended", 410),
        ("malformed", 400),
        ("unavailable", 503),
    ],
)
def test_the_status_says_how_it_stands_and_only_one_page_holds_a_key(name, status):
    """Programs that check links see it too; only what may still be opened has a button."""
    answer = ANSWERS[name]
    assert answer.status_code == status
    assert bool(SECRET.search(text_of(answer))) == (name == "shown")
    has_button = name in ("open", "with a passphrase", "refused")
    assert bool(Outline(text_of(answer)).of("button")) == has_button


@pytest.mark.parametrize("name", ["used", "withdrawn", "locked", "expired", "ended"])
def test_a_link_that_is_over_says_when(name):
    """To the second, UTC, and whom to ask."""
    assert WHEN in text_of(ANSWERS[name])
    assert "Cedar &amp; Co" in text_of(ANSWERS[name])


def test_an_open_link_names_network_integration_and_end():
    """With the passphrase's field only where one is asked for."""
    plain, asking = ANSWERS["open"], ANSWERS["with a passphrase"]
    for part in ("Cedar &amp; Co", "crm", moment(SHARE.expires_at)):
        assert part in text_of(plain)
    assert Outline(text_of(plain)).of("input") == []
    (field,) = Outline(text_of(asking)).of("input")
    assert (field["name"], field["type"]) == ("passphrase", "password")
    assert Outline(text_of(plain)).of("form")[0]["method"] == "post"


def test_the_key_comes_with_its_conditions():
    """From when, until when and from where; a key without any has no such line."""
    limited = replace(KEY, not_before=NOW + 5, expires_at=NOW + 65, allowlist=("192.0.2.7", "::1"))
    page = text_of(PAGES.of(view("shown", key=limited, secret=generate())))
    for words in (
        "works from 1 January 2026, 00:00:05 UTC",
        "works until 1 January 2026, 00:01:05",
    ):
        assert words in page
    assert "used from 192.0.2.7, ::1." in page
    free = replace(KEY, not_before=0.0, expires_at=None, allowlist=())
    page = text_of(PAGES.of(view("shown", key=free, secret=generate())))
    assert "works" not in page
    assert "used from" not in page


def test_a_wrong_passphrase_says_how_many_are_left():
    """In words that are right for one, too."""
    assert "1 more wrong one closes the link for good." in text_of(ANSWERS["refused"])
    three = view("open", replace(WITH_PASSPHRASE, wrong_passphrases=2))
    assert "3 more wrong ones close the link for good." in text_of(PAGES.of(three))


def test_names_that_are_markup_stay_text():
    """Of the network and of the integration, on every page."""
    hostile = replace(KEY, integration=HOSTILE, status="revoked", ended_at=NOW)
    for outcome in ("open", "shown", "used", "ended", "suspended"):
        share = ended("used") if outcome == "used" else SHARE
        page = text_of(PAGES.of(View(share, hostile, HOSTILE, outcome, secret=generate())))
        assert "<script" not in page
        assert "&lt;script&gt;" in page


class Away:
    """Handlers whose database does not answer."""

    async def look(self, *_):
        raise UnavailableError("opening a link: Postgres: gone", retry_after_seconds=7)

    open = look


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_while_postgres_is_away_a_visitor_gets_a_page_that_says_so(method):
    """With the moment to come again, and nothing about our inside."""
    app = new_app("Keys", "")
    share_routes.add_routes(app, Away(), lambda _: IDENTITY, lambda _: None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.request(method, "/v1/shares/" + "a" * 43)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "Temporarily unavailable" in answer.text
    assert "Postgres" not in answer.text
