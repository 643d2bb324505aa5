"""Protects the order of the checks at the gateway, its texts, and what its headers say."""

import json

import pytest

from services.gateway.domain import passed_back, passed_on
from services.gateway.granular import is_granular
from services.gateway.handlers import ROUTED, Door, Limits
from shared.access import AccessTable
from shared.clock import ManualClock
from shared.events import Budget, KeyState, NetworkState, PartnerAccess
from shared.identity import IdentitySigner
from shared.partner_key import PartnerKey, generate
from tests.door_parts import rates, requested
from tests.views import FakeView

KEY = generate()
TABLE = "/v1/affiliates/reporting/entity/table"
SIGNER = IdentitySigner("a secret of sixteen bytes")


class Gate:
    """A door with one key, `KEY`, of partner 7 of network 1."""

    def __init__(self, *, trusted=(), **state) -> None:
        self.clock = ManualClock()
        self.keys, self.partners, self.networks = FakeView(), FakeView(), FakeView()
        table = AccessTable(
            keys=self.keys, partners=self.partners, networks=self.networks, stale_seconds=30
        )
        limits = Limits(
            header_bytes_max=2_000,
            body_bytes_max=100_000,
            token_budget=Budget(rate=1, burst=3),
            guess_budget=Budget(rate=1, burst=5),
        )
        self.door = Door(table, SIGNER, self.clock, trusted=trusted, limits=limits)
        self.add_key(KEY, **state)

    def add_key(self, key: PartnerKey, **state) -> None:
        fields = {
            "key_id": f"id {key.masked}",
            "version": 1,
            "digest": key.digest,
            "network_id": 1,
            "network_affiliate_id": 7,
            "integration": "warehouse",
        }
        value = KeyState(**(fields | state))
        self.keys.put(value.key_id, value)

    def ask(self, method="GET", path="/v1/affiliates/network", *, key=KEY, **headers):
        """Judge a request; the key is sent unless None."""
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        if key is not None:
            raw.append((b"x-eflow-api-key", key.reveal().encode()))
        self.request = requested(method, path, raw, request_id="r1")
        return self.door.judge(self.request)

    def answer(self, *args, **kwargs) -> tuple[int, str] | None:
        """Status and text of the refusal."""
        rejection = self.ask(*args, **kwargs).rejection
        return None if rejection is None else (int(rejection.status), rejection.text)


def test_a_good_request_goes_on_with_what_is_left_of_the_budget():
    """The positive control."""
    passage = Gate().ask()
    assert passage.rejection is None
    assert passage.caller is not None
    assert passage.caller.network_affiliate_id == 7
    assert passage.verdict is not None
    assert rates(passage) == [
        (b"x-ratelimit-limit", b"20"),
        (b"x-ratelimit-remaining", b"19"),
        (b"ratelimit-policy", b'"affiliate";q=20;w=4'),
        (b"ratelimit", b'"affiliate";r=19;t=1'),
    ]


def test_an_unknown_path_is_answered_before_anybody_is_asked_who_they_are():
    """404 with a good key, a bad key and none; a known path with a wrong method is 405."""
    gate = Gate()
    for key in (KEY, generate(), None):
        assert gate.answer(path="/v1/affiliates/nothing", key=key) == (404, "Not Found")
        assert gate.answer("DELETE", TABLE, key=key) == (405, "Method Not Allowed")
    rejection = gate.ask("DELETE", TABLE).rejection
    assert rejection is not None
    assert rejection.headers == ((b"allow", b"POST"),)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/%61ffiliates/network",
        "/v1//affiliates/network",
        "/v1/affiliates/network//",
        "/v1/affiliates/x/../network",
        "/v1/affiliates/reporting/clicks/a/b",
        "/v1/shares/",
        "/v1/firehose/stream",
        "/",
        "",
    ],
)
def test_a_path_is_taken_as_sent(path):
    """No spelling of a path means one thing to the door and another to the service behind it."""
    assert Gate().answer(path=path) == (404, "Not Found")


def test_one_trailing_slash_is_the_same_path():
    """Some deployed clients send it."""
    assert Gate().answer(path="/v1/affiliates/network/") is None


def test_the_order_of_refusals():
    """Each cause of refusal is seen only when those before it are gone."""
    gate = Gate(realm="network", status="revoked", allowlist=("10.0.0.0/8",))
    gate.partners.put(
        "1:7", PartnerAccess(network_id=1, network_affiliate_id=7, version=1, suspended=True)
    )
    assert gate.answer(path="/v1/nothing") == (404, "Not Found")
    assert gate.answer(key=None) == (401, "No Authentication Method Found")
    assert gate.answer(key=generate()) == (401, "Unable to authenticate request")
    assert gate.answer() == (403, "Out of realm")
    gate.add_key(KEY, version=2, status="revoked", allowlist=("10.0.0.0/8",))
    assert gate.answer() == (401, "Unable to authenticate request")
    gate.add_key(KEY, version=3, allowlist=("10.0.0.0/8",))
    assert gate.answer() == (403, "Address 203.0.113.7 is not on the allowlist of this key")
    gate.add_key(KEY, version=4)
    status, text = gate.answer() or (0, "")
    assert (status, "suspended" in text) == (403, True)
    gate.partners.put("1:7", None)
    assert gate.answer() is None


def test_a_key_of_any_realm_reads_what_is_open_to_all():
    """`/v1/meta/…` needs a key, of whatever realm."""
    gate = Gate(realm="network")
    assert gate.answer(path="/v1/meta/timezones") is None
    assert gate.answer(path="/v1/meta/timezones", key=None) is not None


def test_two_keys_are_no_key():
    """Which of them would it be?"""
    gate = Gate()
    raw = [(b"x-eflow-api-key", KEY.reveal().encode())] * 2
    passage = gate.door.judge(requested("GET", "/v1/affiliates/network", raw, peer=""))
    assert passage.rejection is not None
    assert passage.rejection.text == "Unable to authenticate request"


def test_a_network_shares_one_budget_and_refusals_cost_nothing():
    """All partners of a network draw on it; who is refused for another cause does not."""
    gate = Gate()
    other, refused, foreign = generate(), generate(), generate()
    gate.add_key(other, network_affiliate_id=8)
    gate.add_key(refused, network_affiliate_id=9, allowlist=("10.0.0.0/8",))
    gate.add_key(foreign, network_id=2)
    for _ in range(10):
        assert gate.answer() is None
        assert gate.answer(key=other) is None
        assert gate.answer(key=refused) is not None
    assert gate.answer() is not None
    status, text = gate.answer(key=other) or (0, "")
    assert (status, text) == (429, "Too many requests: the budget is 20 in 4 s; come again in 1 s.")
    assert gate.answer(key=foreign) is None
    gate.clock.advance(0.2)
    assert gate.answer() is None
    assert gate.answer() is not None


def test_a_429_is_honest_in_headers_and_body():
    """Retry-After is when a token is there again; the body has the members of RFC 9457."""
    gate = Gate()
    gate.networks.put(
        "1", NetworkState(network_id=1, version=1, affiliate=Budget(rate=0.25, burst=1))
    )
    assert gate.answer() is None
    passage = gate.ask()
    assert passage.rejection is not None
    assert passage.verdict is not None
    assert passage.rejection.headers == ((b"retry-after", b"4"),)
    assert dict(rates(passage))[b"ratelimit"] == b'"affiliate";r=0;t=4'
    body = json.loads(passage.rejection.body())
    assert body["Error"] == body["error"] == body["message"] == passage.rejection.text
    assert body["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert (body["status"], body["violated-policies"]) == (429, ["affiliate"])
    gate.clock.advance(4)
    assert gate.answer() is None


def test_a_budget_in_shadow_refuses_nobody():
    """It says in the headers that nothing is left."""
    gate = Gate()
    budget = Budget(rate=1, burst=1)
    gate.networks.put("1", NetworkState(network_id=1, version=1, affiliate=budget, shadow=True))
    passages = [gate.ask() for _ in range(3)]
    assert [passage.rejection for passage in passages] == [None] * 3
    assert [passage.verdict.remaining for passage in passages] == [0] * 3
    assert [passage.verdict.over for passage in passages] == [False, True, True]


def _report(*columns: str, **filters: str) -> bytes:
    pairs = [{"resource_type": name, "filter_id_value": value} for name, value in filters.items()]
    query = {"filters": pairs}
    return json.dumps({"columns": [{"column": name} for name in columns], "query": query}).encode()


def test_granular_reports_have_an_hourly_budget_of_their_own():
    """Of the network, beside that of all requests; other reports do not draw on it."""
    gate = Gate()
    gate.networks.put("1", NetworkState(network_id=1, version=1, granular_per_hour=2))
    fine, coarse = _report("offer", "sub1"), _report("offer", "date")
    for content in (fine, coarse, fine):
        passage = gate.door.judge_report(gate.ask("POST", TABLE), content)
        assert passage.rejection is None
    assert dict(rates(passage))[b"ratelimit"].startswith(b'"affiliate";r=17;t=1, "granular";r=0')
    policies = dict(rates(passage))[b"ratelimit-policy"]
    assert policies == b'"affiliate";q=20;w=4, "granular";q=2;w=3600'
    refused = gate.door.judge_report(gate.ask("POST", TABLE), fine)
    assert refused.rejection is not None
    assert refused.rejection.members["violated-policies"] == ["granular"]
    wait = int(dict(refused.rejection.headers)[b"retry-after"])
    assert gate.door.judge_report(gate.ask("POST", TABLE), coarse).rejection is None
    gate.clock.advance(wait)
    assert gate.door.judge_report(gate.ask("POST", TABLE), fine).rejection is None


@pytest.mark.parametrize(
    ("content", "granular"),
    [
        (_report("offer", "hour"), False),
        (_report("sub5"), True),
        (_report("offer", country="Canada"), True),
        (_report("offer", offer="5"), False),
        (b'{"query":{"exclusions":[{"resource_type":"isp","filter_id_value":"x"}]}}', True),
        (b'{"columns":["sub1"],"query":[]}', True),
        (b'{"columns":[["sub1"],7,null,{"column":["sub1"]}]}', False),
        (b'{"columns":{"column":"sub1"}}', False),
        (b"[" * 60_000, False),
        (b"not json", False),
        (b"\xff", False),
        (b"", False),
    ],
)
def test_a_report_is_granular_by_what_it_groups_and_filters_by(content, granular):
    """A body that is no report goes on to its service, which says what is wrong with it."""
    assert is_granular(content) == granular


def test_headers_of_the_budget_are_shown_only_to_whom_the_key_belongs():
    """A revoked key's answer must read as an unknown one's, headers included."""
    gate = Gate(allowlist=("10.0.0.0/8",))
    assert gate.ask().verdict is not None
    gate.add_key(KEY, version=2, status="revoked")
    assert gate.ask().verdict is None
    assert gate.ask(key=generate()).verdict is None


def test_routes_for_tokens_want_a_token_and_no_key():
    """The owning service verifies the token; a partner's key is out of its realm."""
    gate = Gate()
    path = "/v1/networks/apikeys"
    assert gate.answer(path=path) == (403, "Out of realm")
    assert gate.answer(path=path, authorization="Bearer x") == (403, "Out of realm")
    assert gate.answer(path=path, key=generate()) == (401, "Unable to authenticate request")
    assert gate.answer(path=path, key=None) == (401, "No Authentication Method Found")
    passage = gate.ask(path=path, key=None, authorization="Bearer x")
    assert (passage.rejection, passage.caller, passage.verdict) == (None, None, None)
    identity = SIGNER.verify(
        gate.door.identity(gate.request, passage, path),
        method="GET",
        path=path,
        now=gate.clock.time(),
    )
    assert (identity.network_id, identity.key_id, identity.client_ip) == (0, "", "203.0.113.7")


def test_routes_for_tokens_have_a_limit_per_address():
    """Guessing tokens is slow; another address is not touched by it."""
    gate = Gate()
    path = "/v1/audit/entries"
    answers = [gate.answer(path=path, key=None, authorization="Bearer x") for _ in range(4)]
    assert [answer and answer[0] for answer in answers] == [None, None, None, 429]
    raw = [(b"authorization", b"Bearer x")]
    other = gate.door.judge(requested("GET", path, raw, peer="203.0.113.8"))
    assert other.rejection is None


def test_a_stale_door_says_when_to_come_again():
    """503 with Retry-After, the cause not told."""
    gate = Gate()
    gate.keys.age = 31
    rejection = gate.ask().rejection
    assert rejection is not None
    assert (rejection.status, rejection.text) == (503, "Temporarily unavailable.")
    assert dict(rejection.headers)[b"retry-after"] == b"5"


def test_sizes_are_bounded():
    """Headers and a declared body, a report's more tightly; one byte less passes."""
    gate = Gate()
    assert gate.answer("POST", TABLE, content_length="65536") is None
    assert gate.answer("POST", TABLE, content_length="65537") == (413, "Body too large")
    issue = {"method": "POST", "path": "/v1/networks/affiliates/7/apikeys", "key": None}
    token = {"authorization": "Bearer x"}
    assert gate.answer(**issue, **token, content_length="100000") is None
    assert gate.answer(**issue, **token, content_length="100001") == (413, "Body too large")
    assert gate.answer(x_long="x" * 2_000) == (431, "Headers too large")


def test_the_identity_is_of_the_caller_and_the_request():
    """A service learns who it is, from where, and under which request id."""
    gate = Gate()
    passage = gate.ask("POST", TABLE)
    value = gate.door.identity(gate.request, passage, TABLE)
    identity = SIGNER.verify(value, method="POST", path=TABLE, now=gate.clock.time())
    assert (identity.network_id, identity.network_affiliate_id) == (1, 7)
    assert (identity.key_id, identity.request_id) == (f"id {KEY.masked}", "r1")


def test_neither_the_key_nor_a_forged_identity_goes_on():
    """Hop-by-hop headers end here too, also those that Connection names."""
    passed = passed_on(
        [
            (b"accept", b"application/json"),
            (b"x-eflow-api-key", KEY.reveal().encode()),
            (b"x-portico-identity", b"v1.forged"),
            (b"x-request-id", b"mine"),
            (b"connection", b"keep-alive, X-Private"),
            (b"x-private", b"1"),
            (b"transfer-encoding", b"chunked"),
            (b"x-forwarded-for", b"1.2.3.4"),
            (b"host", b"api.example"),
            (b"authorization", b"Bearer x"),
            (b"x-note", "é".encode()),
        ]
    )
    assert passed == [
        (b"accept", b"application/json"),
        (b"authorization", b"Bearer x"),
        (b"x-note", "é".encode()),
    ]


def test_an_answer_comes_back_without_what_was_for_us():
    """Its type and own headers stay; its length, and what we tell of a budget, are told anew."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"2"),
        (b"x-data-through", b"now"),
        (b"connection", b"close, x-hop"),
        (b"x-hop", b"1"),
        (b"server", b"uvicorn"),
        (b"date", b"today"),
        (b"x-request-id", b"theirs"),
        (b"ratelimit", b"theirs"),
    ]
    told = [
        (b"content-type", b"application/json"),
        (b"x-data-through", b"now"),
    ]
    assert passed_back(headers, has_budget=True) == told
    assert passed_back(headers, has_budget=False) == [*told, (b"ratelimit", b"theirs")]


def test_every_route_has_a_service_behind_the_gateway():
    """Streams have a door of their own."""
    assert {route.service for route in ROUTED} <= {"keys", "reporting", "audit"}
