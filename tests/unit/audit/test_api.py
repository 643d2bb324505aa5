"""Protects: what callers may write as a moment, an id or a cursor, and the routes they find."""

import json
from hashlib import sha256

import pytest

from services.audit import api, chain
from shared.config import TokenSettings
from shared.errors import InvalidError
from shared.http import IdentityCheck
from shared.identity import IdentitySigner
from shared.routes import of_service
from shared.tokens import TokenVerifier


def test_the_service_serves_exactly_its_rows_of_the_route_table():
    """What the gateway forwards is found, and nothing else is open."""
    identity = IdentityCheck(IdentitySigner("0123456789abcdef"))
    app = api.build_api(None, identity, TokenVerifier(TokenSettings(JWT_JWKS="jwks.json")))
    served = {(method, route.path) for route in app.routes for method in route.methods}
    assert served == {(route.method, route.template) for route in of_service("audit")}


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01T01:00:00+01:00", "1767225600.0"]
)
def test_a_moment_may_be_iso_or_seconds(text: str):
    """All four are the same moment."""
    assert api.moment("from", text) == 1_767_225_600.0


@pytest.mark.parametrize("text", ["yesterday", "", "1e400", "-5", "nan"])
def test_another_text_is_refused_with_its_name(text: str):
    """The message says which parameter and what would do."""
    with pytest.raises(InvalidError, match=r"^from: .*2026-01-31"):
        api.moment("from", text)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 30, "²"])
def test_a_foreign_last_event_id_is_refused(text: str):
    """Rather than beginning somewhere silently."""
    with pytest.raises(InvalidError, match="Last-Event-ID"):
        api.resume_point(text)


def test_a_reader_can_check_an_answered_entry():
    """Without its last member, the answer is the text that was hashed."""
    entry = chain.link(chain.genesis(1), 1, {"kind": "KeyIssued", "body": {"reason": "é"}})
    answered = json.loads(api.rendered(entry))
    noted = answered.pop("hash")
    text = json.dumps(answered, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert sha256(text.encode()).hexdigest() == noted
