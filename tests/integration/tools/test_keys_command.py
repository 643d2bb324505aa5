"""`portico keys` asks the door for exactly what was typed, and a failure is one clear line."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli_parts import Answer, Portico, Ran, ScriptedDoor, scripted_door
from tests.unit.tools.test_keys_view import ROW
from tools.cli import door as cli_door

KEY = ROW["key_id"]
SECRET = "aff_0123456789ABCDEFGHIJKLMNOPQ0x1y2z"
SHOWN = ROW | {"key": SECRET, "propagated": True}
CHANGED = ROW | {"propagated": True}
LINK = {
    "share_id": "share_1",
    "state": "open",
    "created_at": "2026-01-31T12:00:00.000Z",
    "created_by": "user-7",
    "created_by_name": "Ada",
    "expires_at": "2026-02-01T12:00:00.000Z",
    "opened_at": None,
    "opened_ip": None,
    "ended_at": None,
}


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedDoor]:
    """A door, and an environment in which the command finds it."""
    with scripted_door() as found:
        monkeypatch.setenv("PORTICO_HOME", str(tmp_path))
        monkeypatch.setenv("PORTICO_GATEWAY", found.url)
        monkeypatch.setenv("PORTICO_TOKEN", "staff-token")
        monkeypatch.setenv("PORTICO_NETWORK", "201")
        monkeypatch.setattr(cli_door, "REPEAT_PAUSES_SECONDS", (0, 0))
        yield found


@pytest.fixture
def keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Runs `portico keys …`."""
    portico = Portico(capsys, monkeypatch)

    def run(*words: str) -> Ran:
        return portico("keys", *words)

    return run


@pytest.mark.parametrize(
    ("words", "answer", "asked"),
    [
        (
            ("rotate", KEY, "--overlap", "12h", "--reason", "quarterly"),
            SHOWN,
            ("POST", f"/apikeys/{KEY}/rotate", {"overlap_seconds": 43_200, "reason": "quarterly"}),
        ),
        (
            ("revoke", KEY, "--reason", "leaked"),
            CHANGED,
            ("POST", f"/apikeys/{KEY}/revoke", {"reason": "leaked"}),
        ),
        (
            ("expire", KEY, "--at", "2027-01-31T00:00:00Z"),
            CHANGED,
            ("PUT", f"/apikeys/{KEY}/expiry", {"expires_at": "2027-01-31T00:00:00Z", "reason": ""}),
        ),
        (
            ("expire", KEY, "--at", "never"),
            CHANGED,
            ("PUT", f"/apikeys/{KEY}/expiry", {"expires_at": None, "reason": ""}),
        ),
        (
            ("allow", KEY, "192.0.2.7", "2001:db8::/32"),
            CHANGED,
            (
                "PUT",
                f"/apikeys/{KEY}/allowlist",
                {"allowlist": ["192.0.2.7", "2001:db8::/32"], "reason": ""},
            ),
        ),
        (
            ("reshare", KEY, "--reveal", "--reason", "lost"),
            SHOWN,
            ("POST", f"/apikeys/{KEY}/reveal", {"reason": "lost"}),
        ),
        (
            ("reshare", KEY, "--for", "2h"),
            LINK | {"url": "http://door/v1/shares/t"},
            ("POST", f"/apikeys/{KEY}/shares", {"expires_in_seconds": 7_200}),
        ),
        (("links", KEY), {"shares": [LINK]}, ("GET", f"/apikeys/{KEY}/shares", None)),
        (
            ("withdraw", KEY, "share_1", "--reason", "a mistake"),
            LINK,
            ("DELETE", f"/apikeys/{KEY}/shares/share_1?reason=a+mistake", None),
        ),
        (
            ("suspend", "7", "--reason", "fraud"),
            {"network_affiliate_id": 7, "suspended": True, "holds": ["staff"], "propagated": True},
            ("PUT", "/affiliates/7/suspension", {"suspended": True, "reason": "fraud"}),
        ),
        (
            ("resume", "7"),
            {"network_affiliate_id": 7, "suspended": False, "holds": [], "propagated": True},
            ("PUT", "/affiliates/7/suspension", {"suspended": False, "reason": ""}),
        ),
        (
            ("firehose", "7", "--on"),
            {"network_affiliate_id": 7, "enabled": True, "suspended": False, "propagated": True},
            ("PUT", "/affiliates/7/firehose", {"enabled": True, "reason": ""}),
        ),
        (
            ("show", KEY),
            ROW | {"usage": {"sources": []}},
            ("GET", f"/apikeys/{KEY}", None),
        ),
        (
            ("list", "--partner", "7", "--status", "active", "--sort", "-last_used_at"),
            {"apikeys": [ROW], "paging": {"limit": 100, "next_cursor": None}},
            ("GET", "/affiliates/7/apikeys?status=active&sort=-last_used_at", None),
        ),
    ],
)
def test_each_command_is_one_call_and_json_is_its_answer(door, keys, words, answer, asked) -> None:
    """What was typed reaches the door as it was meant; `--json` prints what came back, whole."""
    door.will(Answer(answer), Answer(answer))
    plain = keys(*words)
    assert plain.status == 0, plain.err
    assert plain.out.strip()
    told = keys(*words, "--json")
    assert json.loads(told.out) == answer
    method, path, body = asked
    for call in door.calls:
        assert (call.method, call.path, call.body) == (method, f"/v1/networks{path}", body)
        assert call.headers["authorization"] == "Bearer staff-token"


def test_an_issued_secret_is_all_that_stands_on_standard_output(door, keys) -> None:
    """`KEY=$(portico keys issue …)` holds the key; what else is told goes beside it."""
    door.will(Answer(SHOWN, 201))
    ran = keys("issue", "7", "--integration", "crm", "--allow", "192.0.2.7", "--expires", "90d")
    assert ran.out == f"{SECRET}\n"
    assert "Cedar Coupons (7)" in ran.err
    assert SECRET not in ran.err
    (call,) = door.calls
    assert call.path == "/v1/networks/affiliates/7/apikeys"
    assert call.body["allowlist"] == ["192.0.2.7"]
    assert call.body["expires_at"].endswith("Z")


@pytest.mark.parametrize("lost", [Answer(drop=True), Answer({"message": "away"}, 502)])
def test_an_issue_whose_answer_is_lost_is_repeated_as_the_same_wish(door, keys, lost) -> None:
    """One `Idempotency-Key` an invocation: the partner gets one key, however often it is sent."""
    door.will(lost, lost, Answer(SHOWN, 201))
    assert keys("issue", "7", "--integration", "crm").status == 0
    names = {call.headers["idempotency-key"] for call in door.calls}
    assert (len(door.calls), len(names)) == (3, 1)
    door.will(Answer(SHOWN, 201))
    keys("issue", "7", "--integration", "crm")
    assert door.calls[-1].headers["idempotency-key"] not in names


def test_a_refused_issue_is_not_repeated(door, keys) -> None:
    """The control: a refusal is an answer."""
    text = "The partner may not have a key: onboarding is not finished."
    door.will(Answer({"message": text}, 409))
    ran = keys("issue", "7", "--integration", "crm")
    assert (ran.status, ran.out, ran.err) == (1, "", f"409 {text}\n")
    assert len(door.calls) == 1


def test_when_nobody_answers_the_message_says_how_to_go_on(door, keys) -> None:
    """The operator cannot know whether a key was made; the same wish again tells."""
    door.will(*[Answer(drop=True)] * 3)
    ran = keys("rotate", KEY, "--retry-key", "ticket-4711")
    assert ran.status == 2
    assert "make run" in ran.err
    assert "--retry-key ticket-4711" in ran.err
    assert {call.headers["idempotency-key"] for call in door.calls} == {"ticket-4711"}


def test_whoever_interrupts_an_issue_learns_how_to_go_on(door, keys, monkeypatch) -> None:
    """The key may have been made before Ctrl-C was pressed."""

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_door.time, "sleep", interrupt)
    door.will(Answer(drop=True))
    ran = keys("issue", "7", "--integration", "crm")
    assert ran.status == 2
    assert ran.err.startswith("Interrupted.")
    assert f"--retry-key {door.calls[0].headers['idempotency-key']}" in ran.err


def test_a_missing_permission_is_explained(door, keys) -> None:
    """`Forbidden` alone leaves people guessing."""
    door.will(Answer({"Error": "Forbidden", "error": "Forbidden", "message": "Forbidden"}, 403))
    ran = keys("list")
    assert ran.status == 1
    assert ran.err.startswith("403 Forbidden: the token lacks the permission")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "revoked"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_revoking_asks_whoever_sits_at_a_keyboard(door, keys, monkeypatch, typed, revoked) -> None:
    """Only a yes revokes; the question says what would be lost."""
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    door.will(Answer(ROW), Answer(CHANGED))
    ran = keys("revoke", KEY)
    assert "Revoke aff_…x7Qp of partner Cedar Coupons (7) for 'reporting'" in ran.err
    assert [call.method for call in door.calls] == (["GET", "POST"] if revoked else ["GET"])
    assert (ran.status == 0) is revoked


def test_yes_and_a_pipe_are_not_asked(door, keys, monkeypatch) -> None:
    """A script goes on; so does whoever said so beforehand."""
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    door.will(Answer(CHANGED), Answer(CHANGED), Answer(SHOWN, 201))
    assert keys("revoke", KEY, "--yes").status == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert keys("revoke", KEY).status == 0
    assert keys("rotate", KEY, "--overlap", "0").status == 0
    assert [call.method for call in door.calls] == ["POST", "POST", "POST"]


def test_a_link_goes_to_standard_output_and_its_passphrase_nowhere(door, keys, monkeypatch) -> None:
    """The URL can be piped on; the passphrase comes from a pipe, is sent, and is not printed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("swordfish 42\n"))
    door.will(Answer(LINK | {"url": "http://door/v1/shares/token"}, 201))
    ran = keys("reshare", KEY, "--passphrase")
    assert ran.out == "http://door/v1/shares/token\n"
    assert door.calls[0].body == {"expires_in_seconds": 86_400, "passphrase": "swordfish 42"}
    assert "swordfish" not in ran.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert keys("reshare", KEY, "--passphrase").status == 1


def test_a_change_that_kafka_has_not_confirmed_says_so(door, keys) -> None:
    """A 202 is a success that the doors do not know of yet."""
    door.will(Answer(ROW | {"propagated": False}, 202))
    ran = keys("allow", KEY)
    assert ran.status == 0
    assert "Kafka has not confirmed it yet" in ran.err


def test_a_long_list_says_where_it_goes_on(door, keys) -> None:
    """Nobody takes the first page for the whole table."""
    door.will(Answer({"apikeys": [ROW], "paging": {"limit": 1, "next_cursor": "abc"}}))
    ran = keys("list", "--limit", "1", "--search", "a b&c")
    assert "--cursor abc" in ran.err
    assert "Cedar Coupons (7)" in ran.out
    assert door.calls[0].path == "/v1/networks/apikeys?search=a+b%26c&limit=1"


def test_an_export_appears_whole_with_every_filter(door, keys, tmp_path) -> None:
    """The bytes are those of the service, whatever they are."""
    body = "\ufeffkey_id,integration\r\nkey_1,'=1+1\r\n".encode()
    door.will(Answer(body), Answer(body))
    file = tmp_path / "keys.csv"
    file.write_text("older")
    ran = keys("export", "--output", str(file), "--status", "active", "--warning", "many_networks")
    assert ran.status == 0, ran.err
    assert file.read_bytes() == body
    path = "/v1/networks/apikeys/export?format=csv&status=active&warning=many_networks"
    assert door.calls[0].path == path
    assert keys("export", "--format", "csv").out.encode() == body


def test_an_export_cut_short_leaves_the_older_file_alone(door, keys, tmp_path) -> None:
    """Half a table must not pass for one; nothing is left beside it either."""
    door.will(Answer(b"key_id\r\n", cut=True))
    file = tmp_path / "keys.csv"
    file.write_text("older")
    ran = keys("export", "--output", str(file))
    assert ran.status == 2
    assert file.read_text() == "older"
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_to_nowhere_is_refused_before_the_table_is_read(door, keys, tmp_path) -> None:
    """A folder that is not there is named."""
    ran = keys("export", "--output", str(tmp_path / "no" / "keys.csv"))
    assert ran.status == 2
    assert "cannot be written: No such file or directory" in ran.err
    assert door.calls == []


@pytest.mark.parametrize("answer", [Answer(b"<html>login</html>"), Answer(b"", 301), Answer(b"")])
def test_what_is_no_gateway_is_not_believed(door, keys, tmp_path, answer) -> None:
    """A login page or a redirect is neither a result nor a file, and a token follows none."""
    door.will(answer, answer)
    ran = keys("list")
    assert ran.status == 2
    assert "PORTICO_GATEWAY" in ran.err
    assert len(ran.err.splitlines()) == 1
    if answer.status != 200:
        assert keys("export", "--output", str(tmp_path / "keys.csv")).status == 2
        assert list(tmp_path.iterdir()) == []


def test_a_page_of_a_proxy_stays_one_line(door, keys) -> None:
    """Whatever stands between answers with; nothing of it can move the cursor."""
    page = b"<html>\n" + b"<b>\x1b[2J</b>\n" * 500
    door.will(Answer(page, 502))
    ran = keys("list")
    assert ran.status == 2
    assert len(ran.err) < 600
    assert "\x1b" not in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("token", ["eyJ\nX-Evil: 1", "geheim-é", "two words"])
def test_a_token_that_cannot_be_one_is_refused_and_not_shown(
    door, keys, monkeypatch, token
) -> None:
    """A file pasted with its line break, or another secret by mistake: it stays where it was."""
    monkeypatch.setenv("PORTICO_TOKEN", token)
    ran = keys("list")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "PORTICO_TOKEN holds something that is no token.\n"
    monkeypatch.setenv("PORTICO_TOKEN", "staff-token\n")
    door.will(Answer({"apikeys": [], "paging": {"next_cursor": None}}))
    assert keys("list").status == 0


@pytest.mark.parametrize("address", ["http://door:x", "api.example.com", "https://"])
def test_an_address_that_is_none_is_named(keys, door, monkeypatch, address) -> None:
    """With the variable that holds it."""
    monkeypatch.setenv("PORTICO_GATEWAY", address)
    ran = keys("list")
    assert ran.status == 2
    assert ran.err.startswith("PORTICO_GATEWAY: ")
    assert door.calls == []


def test_a_token_sent_in_clear_to_elsewhere_is_warned_of(keys, door, monkeypatch) -> None:
    """On this machine it is nobody's business."""
    door.will(Answer({"apikeys": [], "paging": {"next_cursor": None}}))
    assert "HTTPS" not in keys("list").err
    monkeypatch.setenv("PORTICO_GATEWAY", "http://portico.invalid")
    assert "is not HTTPS" in keys("list").err


def test_an_id_cannot_lead_to_another_path(door, keys) -> None:
    """What was typed names a key, whatever it looks like."""
    door.will(Answer({"message": "Not Found"}, 404))
    assert keys("show", "../budgets?x=1").status == 1
    assert door.calls[0].path == "/v1/networks/apikeys/..%2Fbudgets%3Fx%3D1"


def test_a_wrong_word_is_refused_before_anything_is_asked(door, keys) -> None:
    """A rotation with a mistyped overlap must not happen with another one."""
    for words in (
        ("rotate", KEY, "--overlap", "7"),
        ("rotate", KEY, "--retry-key", "é"),
        ("expire", KEY, "--at", "2027-01-31"),
    ):
        ran = keys(*words)
        assert ran.status == 1
        assert len(ran.err.splitlines()) == 1
    assert door.calls == []


class Terminal(io.StringIO):
    """What somebody types."""

    def isatty(self) -> bool:
        return True
