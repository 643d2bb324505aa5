"""What people read about keys says what the API says, and cannot disturb their terminal."""

import re

import pytest

from shared.errors import InvalidError
from tools.cli import keys_view, moments, output
from tools.cli.output import cell

NOW = 1_767_225_600.0
ROW = {
    "key_id": "key_0123456789abcdef0123",
    "network_affiliate_id": 7,
    "partner_name": "Cedar Coupons",
    "integration": "reporting",
    "masked": "aff_…x7Qp",
    "status": "active",
    "suspended": False,
    "allowlist": [],
    "created_at": "2026-01-31T12:00:00.000Z",
    "created_by": "user-7",
    "created_by_name": "Ada",
    "not_before": None,
    "expires_at": None,
    "ended_at": None,
    "predecessor_key_id": None,
    "successor_key_id": None,
    "overlap_ends_at": None,
    "last_used_at": "2026-02-01T08:15:00.000Z",
    "last_used_ip": "192.0.2.7",
    "last_used_endpoint": "/v1/affiliates/network",
    "used_today": 12,
    "warnings": [],
}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    """The overlap that was typed is the one that is asked for."""
    assert moments.seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "7 d", "-1d", "1.5h", "7days", "0.0", "999999w"])
def test_what_is_no_span_is_refused_with_what_would_be(text: str) -> None:
    """A number without its unit is not guessed at."""
    with pytest.raises(InvalidError, match=re.escape(f"{text!r} is no time: write 30m")):
        moments.seconds_of(text)


def test_a_moment_is_absolute_or_counted_from_now() -> None:
    """One with its zone goes on as it was typed; the service decides about it."""
    assert moments.moment_of("2027-01-31T00:00:00+02:00", NOW) == "2027-01-31T00:00:00+02:00"
    assert moments.moment_of("1d", NOW) == "2026-01-02T00:00:00.000Z"


@pytest.mark.parametrize("text", ["2027-01-31T00:00:00", "2027-01-31", "tomorrow", "1"])
def test_a_moment_without_its_zone_is_refused(text: str) -> None:
    """Midnight somewhere is not midnight here: a key must not end hours off."""
    with pytest.raises(InvalidError, match="is no moment"):
        moments.moment_of(text, NOW)


def test_times_read_to_the_minute_in_utc() -> None:
    """Whatever zone they came in; nothing for none."""
    assert moments.readable("2026-01-31T12:34:56.789Z") == "2026-01-31 12:34"
    assert moments.readable("2026-01-31T12:34:56+02:00") == "2026-01-31 10:34"
    assert moments.readable(None) == ""
    assert moments.readable("soon") == "soon"


def test_a_line_names_partner_last_use_and_end() -> None:
    """Who has it, where it was used from, and that it never ends, without a second look-up."""
    line = keys_view.key_line(ROW)
    assert line["partner"] == "Cedar Coupons (7)"
    assert line["used"] == "2026-02-01 08:15 192.0.2.7"
    assert line["created"] == "2026-01-31"
    assert line["ends"] == "never"
    assert line["status"] == "active"
    assert line["notes"] == ""
    assert set(line) == {field for field, _ in keys_view.KEY_COLUMNS}


def test_a_line_shows_every_warning_and_a_rotation() -> None:
    """What wants attention stands in the table; a warning unknown here shows its name."""
    line = keys_view.key_line(
        ROW
        | {"warnings": [*keys_view.WARNINGS, "brand_new"], "successor_key_id": "key_2"}
        | {"suspended": True, "last_used_at": None}
    )
    for text in (*keys_view.WARNINGS.values(), "brand_new", "rotated"):
        assert text in line["notes"]
    assert line["status"] == "active, partner suspended"
    assert line["used"] == "never"


def test_a_scheduled_key_says_from_when() -> None:
    """And an ended one when it ended, not when it would have."""
    later = {"status": "scheduled", "not_before": "2026-03-01T00:00:00.000Z"}
    assert keys_view.key_line(ROW | later)["notes"] == "from 2026-03-01 00:00"
    ended = {
        "status": "revoked",
        "suspended": True,
        "ended_at": "2026-02-02T00:00:00.000Z",
        "expires_at": "2027-01-01T00:00:00.000Z",
    }
    line = keys_view.key_line(ROW | ended)
    assert (line["status"], line["ends"]) == ("revoked", "2026-02-02")


def test_a_key_that_is_tried_in_vain_shows_it() -> None:
    """A revoked key that somebody goes on using is worth knowing; silence where nobody does."""
    tried = {
        "refused_at": "2026-02-03T10:00:00.000Z",
        "refused_ip": "203.0.113.9",
        "refused_reason": "revoked",
    }
    told = dict(keys_view.key_facts(ROW | {"usage": tried}))
    assert told["last refused"] == "2026-02-03 10:00 203.0.113.9 (revoked)"
    assert dict(keys_view.key_facts(ROW | {"usage": {"refused_at": None}}))["last refused"] == ""


def test_facts_never_hold_the_secret() -> None:
    """Even where the answer does."""
    told = keys_view.key_facts(ROW | {"key": "aff_secret", "propagated": True})
    assert "aff_secret" not in str(told)
    assert dict(told)["addresses"] == "any"


def test_a_name_cannot_move_the_cursor_of_a_terminal() -> None:
    """A partner's name comes from elsewhere; escape sequences in it are shown, not obeyed."""
    assert cell("a\x1b[2Jb\u202ec\x9bd") == "a�[2Jb�c�d"
    assert cell(["é", "日本"]) == "é, 日本"
    assert (cell(True), cell(False), cell(0), cell(None)) == ("yes", "no", "0", "")


@pytest.mark.parametrize(("width", "is_table"), [(200, True), (125, True), (80, False)])
def test_a_list_stays_readable_however_narrow_the_terminal_is(
    width: int, is_table: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No word is broken: ids and times can be copied; without the room, rows become facts."""
    monkeypatch.setattr(output, "WIDE", width)
    line = keys_view.key_line(ROW | {"warnings": ["many_networks"]})
    output.print_table([line, line], keys_view.KEY_COLUMNS)
    printed = capsys.readouterr().out
    for word in (ROW["key_id"], "2026-02-01", "reporting", "networks", "aff_…x7Qp"):
        assert printed.count(word) == 2
    assert ("last used (UTC)" in printed.splitlines()[1]) is (is_table and width == 200)
    assert (f"key id           {ROW['key_id']}" in printed) is not is_table
    assert max(map(len, printed.splitlines())) <= width
