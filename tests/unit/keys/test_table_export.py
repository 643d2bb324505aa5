"""Protects the exported files: what they hold can be read back, and no spreadsheet runs a cell."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.keys.table.export import CsvWriter, JsonWriter, cell, neutral

DANGEROUS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"

texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=20)
tricky = st.text(st.sampled_from("=+-@\t\r\n;,|\"' a1"), max_size=12)


def written(rows: list[dict[str, object]]) -> bytes:
    writer = CsvWriter(("name", "note"))
    return writer.head() + b"".join(writer.rows([row]) for row in rows) + writer.foot()


def read(data: bytes, delimiter: str = ",") -> list[list[str]]:
    text = data.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))


@pytest.mark.parametrize("sign", DANGEROUS)
def test_a_cell_never_begins_as_a_formula(sign):
    """By the list of OWASP, in any cell, also where white space or a quote comes first."""
    for before in ("", " ", '"', "a;", "a, ", "a\n"):
        text = f"{before}{sign}cmd|' /C calc'!A0"
        shown = neutral(text)
        assert f"{before}'{sign}" in shown or shown.startswith("'"), (text, shown)


@given(tricky)
def test_no_separator_lets_a_formula_begin(text):
    """Whatever a program takes for the end of a cell, the next one begins with no formula sign."""
    for mark in ';,|"\t\r\n':
        for part in neutral(text).split(mark):
            assert not part.lstrip(" ").startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")), (
                text,
                part,
            )


@given(st.lists(st.tuples(texts | tricky, texts | tricky), max_size=5))
def test_what_is_written_is_read_back(rows):
    """Row by row; but for the apostrophes every cell is what it was."""
    found = read(written([{"name": name, "note": note} for name, note in rows]))
    assert found == [["name", "note"], *([neutral(name), neutral(note)] for name, note in rows)]


@pytest.mark.parametrize("text", ["Cedar Coupons", "aff_…abcd", "o'Neill", "a-b", "1+1", "", "Ä=ö"])
def test_a_harmless_text_stays_as_it_is(text):
    """A sign within a word begins nothing."""
    assert neutral(text) == text


def test_a_file_is_as_rfc_4180_has_it():
    """Header, CRLF, doubled quotes; the byte order mark that Excel needs."""
    data = written([{"name": 'say "hi"', "note": None, "secret": "no column of this table"}])
    assert data == b'\xef\xbb\xbf"name","note"\r\n"say ""hi""",""\r\n'


def test_values_have_one_form_in_cells():
    """Lists by spaces, booleans as in JSON, nothing as an empty cell."""
    assert cell(["192.0.2.7", "2001:db8::/32"]) == "192.0.2.7 2001:db8::/32"
    assert [cell(True), cell(False), cell(None), cell(7)] == ["true", "false", "", "7"]


@pytest.mark.parametrize("sizes", [[], [0], [1], [2, 0, 1], [0, 3]])
def test_json_is_one_document(sizes):
    """However its rows were cut into pieces; without its foot it is none."""
    writer, number, data = JsonWriter(), 0, b""
    data += writer.head()
    for size in sizes:
        data += writer.rows([{"n": number + each, "s": "=1"} for each in range(size)])
        number += size
    with pytest.raises(json.JSONDecodeError):
        json.loads(data)
    assert json.loads(data + writer.foot()) == {
        "apikeys": [{"n": each, "s": "=1"} for each in range(number)]
    }
