"""Each line of a fed file is either a correct event or named with its number and the reason."""

import csv
import io
import json

import msgspec
import pytest

from shared.errors import SetupError
from shared.events import Click, Conversion, Impression, Tracked, encode
from tools.feed.lines import LINE_BYTES_MAX, Bad, Good, Line, read
from tools.simulator import cast, traffic
from tools.tracking import Kind

BORN_AT = 1_767_225_600
TRAFFIC = traffic.Traffic(cast.make(1, BORN_AT), 1, BORN_AT)


def events(count: int = 40) -> list[Tracked]:
    return [item.event for n in range(count) for item in TRAFFIC.story(n, BORN_AT + n)]


def flat(value: dict, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found |= flat(inner, f"{prefix}{name}.")
        elif inner is not None:
            found[prefix + name] = str(inner).lower() if isinstance(inner, bool) else str(inner)
    return found


def as_csv(rows: list[dict[str, str]]) -> bytes:
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def ndjson(text: bytes, kind: Kind | None = None) -> list[Line]:
    return list(read(io.BytesIO(text), "ndjson", kind))


def from_csv(text: bytes, kind: Kind | None = None) -> list[Line]:
    return list(read(io.BytesIO(text), "csv", kind))


def test_ndjson_gives_back_every_event_with_its_kind() -> None:
    """What the schema can write, the feed can read, mixed in one file."""
    written = events()
    lines = ndjson(b"\n".join(encode(one) for one in written))
    assert [line.event for line in lines if isinstance(line, Good)] == written
    assert {type(one) for one in written} == {Click, Impression, Conversion}


def test_csv_gives_back_every_event_with_its_kind() -> None:
    """Nested names by dots, numbers and booleans as text, empty cells left out."""
    written = events()
    lines = from_csv(as_csv([flat(msgspec.to_builtins(one)) for one in written]))
    assert [line for line in lines if isinstance(line, Bad)] == []
    assert [line.event for line in lines if isinstance(line, Good)] == written


def test_bad_lines_are_numbered_and_do_not_stop_the_others() -> None:
    """A person finds each bad line in the file and reads what is wrong with it."""
    good = encode(events(1)[0])
    bad_money = json.dumps(json.loads(good) | {"revenue": 0.1234567}).encode()
    unknown = json.dumps(json.loads(good) | {"campaign": 1}).encode()
    without_id = {k: v for k, v in json.loads(good).items() if k != "transaction_id"}
    text = b"\n".join(
        [good, b"{broken", b"", bad_money, unknown, json.dumps(without_id).encode(), b"[1]", good]
    )
    lines = ndjson(text)
    assert [line.number for line in lines if isinstance(line, Good)] == [1, 8]
    reasons = {line.number: line.reason for line in lines if isinstance(line, Bad)}
    assert list(reasons) == [2, 4, 5, 6, 7]
    assert "malformed" in reasons[2]
    assert "six decimals" in reasons[4]
    assert "campaign" in reasons[5]
    assert "transaction_id" in reasons[6]
    assert "object" in reasons[7]


def test_a_line_too_long_is_one_bad_line() -> None:
    """Memory stays bounded whatever the file holds, and the next line is read."""
    good = encode(events(1)[0])
    lines = ndjson(b'{"x":"' + b"y" * (2 * LINE_BYTES_MAX) + b'"}\n' + good)
    assert [type(line) for line in lines] == [Bad, Good]
    assert [line.number for line in lines] == [1, 2]


def test_bytes_that_are_no_text_fail_only_their_line() -> None:
    """A damaged character costs its line in either format."""
    good = encode(events(1)[0])
    assert [type(line) for line in ndjson(b'{"sub1":"\xff"}\n' + good)] == [Bad, Good]
    rows = as_csv([flat(msgspec.to_builtins(one)) for one in events(2)])
    header, first, rest = rows.split(b"\r\n", 2)
    damaged = b"\r\n".join([header, first.replace(b"campaign-", b"\xff"), rest])
    lines = from_csv(damaged)
    assert isinstance(lines[0], Bad)
    assert lines[0].reason == "not UTF-8"
    assert all(isinstance(line, Good) for line in lines[1:])


def test_csv_rows_of_another_width_are_bad() -> None:
    """A missing or surplus cell would shift values into other fields."""
    rows = as_csv([flat(msgspec.to_builtins(one)) for one in events(1)])
    lines = from_csv(rows + b"1,2,3\r\n")
    assert isinstance(lines[-1], Bad)
    assert "3 cells under" in lines[-1].reason
    assert lines[-1].number == len(lines) + 1


@pytest.mark.parametrize("text", [b"", b"\n", b"a,a\n1,2\n"])
def test_a_csv_without_a_usable_header_is_refused_as_a_whole(text: bytes) -> None:
    """Without names nothing in the file means anything."""
    with pytest.raises(SetupError):
        from_csv(text)


def test_a_line_may_name_its_type_and_the_whole_file_may() -> None:
    """Where fields leave a doubt, the network says what it means."""
    impression = next(one for one in events() if isinstance(one, Impression))
    fields = msgspec.to_builtins(impression)
    named = json.dumps(fields | {"type": "click", "is_unique": 1}).encode()
    (line,) = ndjson(named)
    assert isinstance(line, Good)
    assert line.kind == "clicks"
    (line,) = ndjson(named, "impressions")
    assert isinstance(line, Bad)
    (line,) = ndjson(json.dumps(fields | {"type": "view"}).encode())
    assert isinstance(line, Bad)
    assert "'view'" in line.reason
    (line,) = ndjson(encode(impression), "clicks")
    assert isinstance(line, Bad)
    assert "is_unique" in line.reason


def test_a_name_cannot_be_a_value_and_a_group() -> None:
    """Contradicting columns are named instead of one winning silently."""
    (line,) = from_csv(b"conversion_id,hold,hold.status\nab,1,on_hold\n")
    assert isinstance(line, Bad)
    assert "hold" in line.reason
