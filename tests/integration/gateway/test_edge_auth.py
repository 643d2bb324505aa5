"""Protects the edge: who comes in, by which texts and in which order others are refused, from where.

Each test calls from an address of its own (all of 127.0.0.0/8 is here), and from 127.9.9.9 as our
proxy would.
"""

import itertools
import time

import pytest

from shared.events import Budget
from shared.identity import IdentitySigner
from shared.partner_key import PartnerKey, generate
from tests.hostile_parts import SECRET, Fort, Message, fort, request, until

pytestmark = pytest.mark.slow

PATH = "/v1/affiliates/network"
STAFF = "/v1/networks/apikeys"
PROXY = "127.9.9.9"
BURST = 20
TEXT = "Unable to authenticate request"

GOOD, REVOKED, EXPIRED, EARLY, OTHER, OTHER_REVOKED, LISTED, MAPPED, SUSPENDED = (
    generate() for _ in range(9)
)
STATES: dict[PartnerKey, dict] = {
    GOOD: {},
    REVOKED: {"status": "revoked"},
    EXPIRED: {"expires_at": 1.0},
    EARLY: {"not_before": 4_000_000_000.0},
    OTHER: {"realm": "network"},
    OTHER_REVOKED: {"realm": "network", "status": "revoked"},
    LISTED: {"allowlist": ("10.0.0.0/8", "2001:db8::/32")},
    MAPPED: {"allowlist": ("::ffff:10.0.0.0/104",)},
    SUSPENDED: {"network_affiliate_id": 8},
}
UNKNOWN = generate()
_BODY = UNKNOWN.reveal()
MALFORMED = {
    "empty": "",
    "short": "aff_",
    "a wrong check": _BODY[:-1] + ("0" if _BODY[-1] != "0" else "1"),
    "one letter more": GOOD.reveal() + "x",
    "one letter less": GOOD.reveal()[:-1],
    "in capitals": GOOD.reveal().upper(),
    "in quotes": f'"{GOOD.reveal()}"',
    "with a word before": f"Bearer {GOOD.reveal()}",
    "two in one": f"{GOOD.reveal()}, {GOOD.reveal()}",
    "beyond ASCII": "aff_\xe9" + "x" * 32,
    "a whole kilobyte": "aff_" + "x" * 1_024,
}


@pytest.fixture(scope="module")
def gateway(kafka_bootstrap, tmp_path_factory):
    """A gateway that knows all these keys; at the end its log holds none of them, and no error."""
    folder = tmp_path_factory.mktemp("edge")
    settings = {
        "GATEWAY_TRUSTED_PROXIES": f"{PROXY}, 192.0.2.0/24, 2001:db8:ffff::/48",
        "GATEWAY_GUESS_BURST": str(BURST),
        "GATEWAY_GUESS_RATE": "0.5",
    }
    with fort(kafka_bootstrap, f"edge-{folder.name}", folder, **settings) as found:
        found.put_partner(1, 8, suspended=True)
        found.put_network(1, Budget(rate=100_000, burst=1_000_000))
        for number, (key, state) in enumerate(STATES.items()):
            found.put_key(key, f"k{number}", **state)
        found.until_status(200, request(key=GOOD))
        found.until_status(403, request(key=SUSPENDED))
        yield found
        assert found.errors() == []
        log = (folder / "gateway.log").read_text()
        assert not [key for key in STATES if key.reveal() in log]


_hosts = itertools.count(1)


@pytest.fixture
def address() -> str:
    """An address that nobody called from before."""
    number = next(_hosts)
    return f"127.1.{number // 200}.{number % 200 + 1}"


def told(answer: Message) -> tuple[int, str]:
    """Status and text."""
    return answer.status, answer.json["error"]


def with_key(value: str, *more: str, target: str = PATH) -> bytes:
    """A request with a key header as written here."""
    return request(target, headers=(f"X-Eflow-API-Key: {value}", *more))


# --- order and texts ----------------------------------------------------------------------------------

ORDER = [
    ("/v1/nothing", None, 404, "Not Found"),
    ("/v1/nothing", GOOD, 404, "Not Found"),
    ("/v1/nothing", UNKNOWN, 404, "Not Found"),
    ("/v1/affiliates/reporting/entity/table", UNKNOWN, 405, "Method Not Allowed"),
    (PATH, None, 401, "No Authentication Method Found"),
    (PATH, UNKNOWN, 401, TEXT),
    (PATH, REVOKED, 401, TEXT),
    (PATH, EXPIRED, 401, TEXT),
    (PATH, EARLY, 401, TEXT),
    (PATH, OTHER, 403, "Out of realm"),
    (PATH, OTHER_REVOKED, 403, "Out of realm"),
    (PATH, SUSPENDED, 403, "API access of this partner is suspended; ask the network"),
    (STAFF, None, 401, "No Authentication Method Found"),
    (STAFF, GOOD, 403, "Out of realm"),
    (STAFF, REVOKED, 403, "Out of realm"),
    (STAFF, UNKNOWN, 401, TEXT),
    ("/v1/meta/timezones", None, 401, "No Authentication Method Found"),
    ("/v1/meta/timezones", UNKNOWN, 401, TEXT),
]


@pytest.mark.parametrize(("target", "key", "status", "text"), ORDER)
def test_a_refusal_has_the_text_of_the_first_thing_that_is_wrong(
    gateway: Fort, address, target, key, status, text
):
    """The path before the key, the key before its realm, its realm before its state."""
    gateway.mad.forget()
    answer = gateway.ask(request(target, key=key), source=address)
    assert told(answer) == (status, text)
    assert answer.json == {"Error": text, "error": text, "message": text}
    assert answer.value("content-type") == "application/json"
    assert gateway.mad.seen == []


@pytest.mark.parametrize("target", ["/v1/meta/timezones", PATH])
def test_who_may_come_in_does(gateway: Fort, address, target):
    """The positive control; lookups take a key of any realm."""
    assert gateway.ask(request(target, key=GOOD), source=address).status == 200
    status = 200 if "meta" in target else 403
    assert gateway.ask(request(target, key=OTHER), source=address).status == status


def test_an_allowlist_names_the_address_it_refuses(gateway: Fort, address):
    """So that a partner can see what to add."""
    answer = gateway.ask(request(key=LISTED), source=address)
    assert told(answer) == (403, f"Address {address} is not on the allowlist of this key")


def test_keys_that_open_nothing_are_answered_alike_to_the_last_byte(gateway: Fort, address):
    """Nobody learns whether a key is unknown, was revoked, or ever was one."""
    contents = [request(key=key) for key in (UNKNOWN, REVOKED, EXPIRED, EARLY)]
    contents += [with_key(text) for text in MALFORMED.values()]
    answers = [gateway.ask(content, source=address) for content in contents]
    differing = ("x-request-id", "date")
    shown = {
        (
            answer.start,
            answer.body,
            tuple(pair for pair in answer.headers if pair[0] not in differing),
        )
        for answer in answers
    }
    assert len(shown) == 1
    assert told(answers[0]) == (401, TEXT)


# --- the header -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["X-Eflow-API-Key", "X-Eflow-Api-Key", "x-eflow-api-key", "X-EFLOW-API-KEY"]
)
def test_the_headers_name_is_read_in_any_case(gateway: Fort, address, name):
    """Deployed clients write it in all of these ways."""
    content = request(headers=(f"{name}: {GOOD.reveal()}",))
    assert gateway.ask(content, source=address).status == 200


@pytest.mark.parametrize("value", ["  {}", "{}  ", "\t{}\t", "{}"])
def test_blanks_around_a_key_mean_nothing(gateway: Fort, address, value):
    """As around any header's value."""
    content = request(headers=(f"X-Eflow-API-Key:{value.format(GOOD.reveal())}",))
    assert gateway.ask(content, source=address).status == 200


@pytest.mark.parametrize("name", MALFORMED)
def test_what_only_looks_like_a_key_is_none(gateway: Fort, address, name):
    """401, without a look-up."""
    assert told(gateway.ask(with_key(MALFORMED[name]), source=address)) == (401, TEXT)


@pytest.mark.parametrize(
    "second", [GOOD.reveal(), UNKNOWN.reveal(), ""], ids=["the same", "another", "an empty one"]
)
def test_two_key_headers_are_no_key(gateway: Fort, address, second):
    """The door and the service behind must not read different ones."""
    for values in ((GOOD.reveal(), second), (second, GOOD.reveal())):
        content = with_key(values[0], f"x-eflow-api-key: {values[1]}")
        assert told(gateway.ask(content, source=address)) == (401, TEXT)


def test_a_key_elsewhere_is_none(gateway: Fort, address):
    """Neither in the query, nor as a bearer, nor in a cookie."""
    key = GOOD.reveal()
    for content in (
        request(f"{PATH}?X-Eflow-API-Key={key}"),
        request(headers=(f"Authorization: Bearer {key}",)),
        request(headers=(f"Cookie: X-Eflow-API-Key={key}",)),
        request(headers=(f"X_Eflow_API_Key: {key}",)),
        request(headers=(f"X-Api-Key: {key}",)),
    ):
        answer = gateway.ask(content, source=address)
        assert told(answer) == (401, "No Authentication Method Found")


def test_one_trailing_slash_is_taken(gateway: Fort, address):
    """A deployed client sends it; the service sees the path without, which is what was signed."""
    gateway.mad.forget()
    assert gateway.ask(request(f"{PATH}/?page=1", key=GOOD), source=address).status == 200
    assert [each.target for each in gateway.mad.seen] == [f"{PATH}?page=1"]
    assert gateway.ask(request(f"{PATH}//", key=GOOD), source=address).status == 404


# --- from where ---------------------------------------------------------------------------------------------


def seen_from(gateway: Fort, source: str, *headers: str) -> str:
    """The address that the service is told, in the identity signed for this request."""
    gateway.mad.forget()
    assert gateway.ask(request(key=GOOD, headers=headers), source=source).status == 200
    (seen,) = gateway.mad.seen
    identity = IdentitySigner(SECRET).verify(
        seen.head.value("x-portico-identity") or "", method="GET", path=PATH, now=time.time()
    )
    assert seen.head.values("x-forwarded-for") == []
    return identity.client_ip


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 10.1.2.3",
        "X-Forwarded-For: 10.1.2.3, 10.1.2.4, 127.9.9.9",
        "X-Real-IP: 10.1.2.3",
        "Forwarded: for=10.1.2.3",
        "X-Client-IP: 10.1.2.3",
        "True-Client-IP: 10.1.2.3",
        "X-Forwarded-For: \r\nX-Forwarded-For: 10.1.2.3",
    ],
)
def test_nobody_else_is_believed_about_an_address(gateway: Fort, address, header):
    """A caller who is no proxy of ours is who connected, whatever it writes."""
    assert seen_from(gateway, address, header) == address
    answer = gateway.ask(request(key=LISTED, headers=(header,)), source=address)
    assert told(answer)[0] == 403


THROUGH_PROXY = {
    "": PROXY,
    "10.1.2.3": "10.1.2.3",
    "10.1.2.3:4711": "10.1.2.3",
    "  10.1.2.3  ": "10.1.2.3",
    "::ffff:10.1.2.3": "10.1.2.3",
    "[::ffff:10.1.2.3]:4711": "10.1.2.3",
    "2001:db8::1": "2001:db8::1",
    "[2001:DB8:0:0::1]:4711": "2001:db8::1",
    "10.1.2.3, 203.0.113.5": "203.0.113.5",
    "10.1.2.3, 203.0.113.5, 192.0.2.1": "203.0.113.5",
    "10.1.2.3, 203.0.113.5, 192.0.2.1, 2001:db8:ffff::1, 192.0.2.2": "203.0.113.5",
    "10.1.2.3, ::ffff:192.0.2.1": "10.1.2.3",
    "10.1.2.3, nonsense": PROXY,
    "10.1.2.3, nonsense, 192.0.2.1": "192.0.2.1",
    "10.1.2.3, ": PROXY,
    "10.1.2.3 203.0.113.5": PROXY,
    "10.1.2.256": PROXY,
    "010.1.2.3": PROXY,
    "167838211": PROXY,
    "192.0.2.1": "192.0.2.1",
    "10.1.2.3, " + ", ".join(["192.0.2.1"] * 1_000): "10.1.2.3",
    ", ".join(["203.0.113.9"] * 1_000): "203.0.113.9",
}


@pytest.mark.parametrize("value", THROUGH_PROXY)
def test_through_our_proxies_the_first_stranger_counts(gateway: Fort, value):
    """From our end; what stands further off may have been invented."""
    assert seen_from(gateway, PROXY, f"X-Forwarded-For: {value}") == THROUGH_PROXY[value]


def test_several_forwarding_headers_are_one_list(gateway: Fort):
    """The last of the last is the nearest."""
    headers = ("X-Forwarded-For: 10.1.2.3", "x-forwarded-for: 203.0.113.5, 192.0.2.1")
    assert seen_from(gateway, PROXY, *headers) == "203.0.113.5"


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        (LISTED, "10.1.2.3", 200),
        (LISTED, "::ffff:10.1.2.3", 200),
        (LISTED, "2001:db8::7", 200),
        (LISTED, "11.1.2.3", 403),
        (LISTED, "10.1.2.3, 11.1.2.3", 403),
        (LISTED, "nonsense", 403),
        (MAPPED, "10.1.2.3", 200),
        (MAPPED, "::ffff:10.1.2.3", 200),
        (MAPPED, "11.1.2.3", 403),
    ],
)
def test_an_allowlist_judges_that_address(gateway: Fort, key, value, status):
    """An IPv4 address is the same one wrapped in IPv6, in the list and in the request."""
    content = request(key=key, headers=(f"X-Forwarded-For: {value}",))
    assert gateway.ask(content, source=PROXY).status == status


# --- guessing ---------------------------------------------------------------------------------------------


def test_guessing_is_slowed_down_and_told_and_a_good_key_still_passes(gateway: Fort, address):
    """429 with the wait for whatever opens nothing; the partner behind the same address goes on."""
    statuses = [
        gateway.ask(request(key=generate()), source=address).status for _ in range(BURST + 10)
    ]
    assert statuses[:BURST] == [401] * BURST
    assert statuses[-1] == 429
    for _ in range(5):
        assert gateway.ask(request(key=GOOD), source=address).status == 200
    answer = gateway.ask(request(key=generate()), source=address)
    while answer.status == 401:
        answer = gateway.ask(request(key=generate()), source=address)
    assert (answer.status, answer.json["violated-policies"]) == (429, ["failed-keys"])
    assert answer.value("retry-after") in ("1", "2")
    assert answer.value("ratelimit") is None
    assert gateway.ask(request(key=generate()), source="127.1.9.9").status == 401
    until(lambda: _told(gateway, address).get((401, "unknown"), 0) >= BURST)
    until(lambda: _told(gateway, address).get((429, "guessing"), 0) >= 5)


def _told(gateway: Fort, address: str) -> dict[tuple[int, str], int]:
    """What the summaries say of unknown callers from an address: requests by status and refusal."""
    found: dict[tuple[int, str], int] = {}
    for summary in gateway.summaries():
        if summary.network_id == 0:
            for one in summary.counts:
                if one.client_ip == address:
                    name = (one.status, one.refusal)
                    found[name] = found.get(name, 0) + one.count
    return found


# --- what needs no key ----------------------------------------------------------------------------


def test_the_pages_for_partners_need_no_key(gateway: Fort, address):
    """They are answered here, at any state of the services behind, and again as unchanged."""
    gateway.mad.forget()
    with gateway.wire(source=address) as wire:
        answer = wire.send(request("/docs")).answer()
        assert (answer.status, answer.value("content-type")) == (200, "text/html; charset=utf-8")
        assert b"<h1>API reference</h1>" in answer.body
        assert len(answer.value("x-request-id") or "") == 32
        tag = answer.value("etag")
        same = wire.send(request("/docs", headers=(f"If-None-Match: {tag}",))).answer()
        assert (same.status, same.body) == (304, b"")
        assert wire.send(request("/docs/openapi.json")).answer().json["openapi"] == "3.1.0"
        assert wire.send(request("/docs/unknown")).answer().status == 404
    assert gateway.mad.seen == []


@pytest.mark.parametrize("target", ["/docs", "/readyz"])
def test_head_of_what_is_answered_here_has_no_body(gateway: Fort, target):
    """Load balancers ask so; a body would be read as the next answer."""
    with gateway.wire() as wire:
        for _ in range(2):
            answer = wire.send(request(target, method="HEAD")).answer(to_head=True)
            assert answer.status == 200
            assert int(answer.value("content-length") or "0") > 0
        assert wire.send(request("/docs")).answer().status == 200
