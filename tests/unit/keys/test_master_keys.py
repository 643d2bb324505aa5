"""Protects where master keys come from: several in order, none repeated, none ever shown."""

import base64
import os
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.keys.master_keys.source import Source
from services.keys.vault import MasterKey
from shared.errors import SetupError


def text(key: MasterKey) -> str:
    return base64.b64encode(key.reveal()).decode()


FIRST, SECOND = MasterKey(os.urandom(32)), MasterKey(os.urandom(32))


@pytest.mark.parametrize("between", [",", "\n", " , ", "\n\n"])
def test_master_keys_stand_in_their_order_however_they_are_separated(tmp_path, between):
    """In the variable or the file; white space around them, as editors leave it, does not matter."""
    written = f"{text(FIRST)}{between}{text(SECOND)}\n"
    file = tmp_path / "master"
    file.write_text(written)
    assert Source(SecretStr(written), None).read() == (FIRST, SECOND)
    assert Source(None, file).read() == (FIRST, SECOND)


def test_a_master_key_given_twice_counts_once():
    """A careless rotation changes nothing."""
    written = ",".join([text(FIRST), text(SECOND), text(FIRST)])
    assert Source(SecretStr(written), None).read() == (FIRST, SECOND)


@pytest.mark.parametrize(
    "wrong", ["c2hvcnQ=", "not-base64!", base64.b64encode(b"x" * 33).decode(), "aff_secret"]
)
def test_a_wrong_master_key_is_refused_without_repeating_it(wrong: str):
    """The message names variable and place, never the value; neither does what caused it."""
    written = f"{text(FIRST)},{wrong}"
    with pytest.raises(SetupError, match=r"^KEYS_MASTER_KEY: master key 2 is not 32") as refusal:
        Source(SecretStr(written), None).read()
    assert wrong not in refusal.value.message
    assert wrong not in str(refusal.value.__cause__)


@pytest.mark.parametrize("written", ["", " \n", ","])
def test_no_master_key_at_all_is_refused(tmp_path, written: str):
    """An empty file is no new key."""
    (tmp_path / "master").write_text(written)
    with pytest.raises(SetupError, match="holds 0 master keys"):
        Source(None, tmp_path / "master").read()


def test_no_source_or_two_are_refused(tmp_path: Path):
    """The message says how to make one."""
    for given in ((None, None), (SecretStr("x"), tmp_path / "master")):
        with pytest.raises(SetupError, match="exactly one"):
            Source(*given)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    """With the reason."""
    missing = Source(None, tmp_path / "missing")
    with pytest.raises(SetupError, match=r"KEYS_MASTER_KEY_FILE: .*missing cannot be read: No"):
        missing.read()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="not text"):
        Source(None, tmp_path / "binary").read()


def test_a_new_first_key_is_written_for_its_owners_eyes_only(tmp_path: Path):
    """Those before it stay; nothing else is left in the folder."""
    file = tmp_path / "master"
    file.write_text(text(FIRST))
    source = Source(None, file)
    source.prepend(SECOND)
    assert source.read() == (SECOND, FIRST)
    source.keep([SECOND])
    assert source.read() == (SECOND,)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [item.name for item in tmp_path.iterdir()] == ["master"]


def test_a_variable_or_a_read_only_place_cannot_be_written(tmp_path: Path):
    """The message says where to change it instead."""
    with pytest.raises(SetupError, match="KEYS_MASTER_KEY is no file"):
        Source(SecretStr(text(FIRST)), None).prepend(SECOND)
    file = tmp_path / "secrets" / "master"
    file.parent.mkdir()
    file.write_text(text(FIRST))
    (file.parent / "master.new").mkdir()  # in the way, also of a user who may write anything
    with pytest.raises(SetupError, match=r"cannot be written: .* Change it where"):
        Source(None, file).prepend(SECOND)
    assert Source(None, file).read() == (FIRST,)
