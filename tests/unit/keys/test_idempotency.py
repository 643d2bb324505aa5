"""Protects what an answer that is given again may hold: what was shown, never the secret."""

from dataclasses import replace

import msgspec
import pytest

from services.keys import idempotency
from services.keys.domain import Wish
from services.keys.idempotency import Answered, Once
from services.keys.rotation import Turnover
from shared.errors import ConflictError
from tests.keys_parts import KEY, NOW


def test_a_kept_answer_holds_no_secret_and_restores_what_was_shown():
    """Neither sealed nor its digest; what has changed since does not show."""
    rotated = replace(KEY, key_id="key_0", successor_key_id=KEY.key_id, rotated_at=NOW)
    text = msgspec.json.encode(idempotency.answer_of(KEY, rotated, NOW))
    assert b"sealed" not in text
    assert KEY.digest.encode() not in text
    kept = msgspec.json.decode(text)
    changed = replace(KEY, allowlist=(), version=9, expires_at=None)
    assert idempotency.as_answered(changed, kept["key"]) == KEY
    assert idempotency.as_answered(KEY, kept["predecessor"]) == rotated
    assert idempotency.answer_of(KEY, None, NOW)["predecessor"] is None


def test_another_request_under_the_same_key_is_refused():
    """Each part counts: route, partner, and every member of the wish."""
    wishes = [Wish("crm"), Wish("CRM"), Wish("crm", ["192.0.2.7"]), Wish("crm", expires_at=NOW)]
    asked = [("issue", 7, wish) for wish in wishes]
    asked += [("issue", 8, wishes[0]), ("other", 7, wishes[0]), ("rotate", KEY.key_id, Turnover())]
    digests = [idempotency.request_digest(*parts) for parts in asked]
    assert len(set(digests)) == len(asked)
    assert idempotency.request_digest("issue", 7, Wish("crm", ())) == digests[0]
    answered = Answered(digests[0], KEY.key_id, 201, {})
    answered.require_same(Once(201, "user-7", "once", digests[0]))
    with pytest.raises(ConflictError, match="another request"):
        answered.require_same(Once(201, "user-7", "once", digests[1]))


def test_a_key_that_has_ended_is_not_shown_again():
    """The refusal says what became of it, and how to get another."""
    idempotency.require_live(replace(KEY, not_before=NOW + 9), NOW)
    with pytest.raises(ConflictError, match=f"{KEY.key_id}, which is expired"):
        idempotency.require_live(KEY, NOW + 60)
