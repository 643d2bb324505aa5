"""Protects the secrets at rest: only the right master key opens them, each only in its own place."""

import base64
import os
from pathlib import Path

import pytest

from services.keys.vault import DamagedError, Vault, load_master_key
from shared import partner_key
from shared.errors import SetupError

VAULT = Vault(b"m" * 32)
SECRET = partner_key.generate()


def test_a_sealed_secret_opens_again():
    """For the same network and key; the sealed text shows nothing of it."""
    wrapped = VAULT.new_data_key(201)
    sealed = VAULT.seal(wrapped, 201, "key_a", SECRET)
    assert VAULT.open(wrapped, 201, "key_a", sealed) == SECRET
    assert SECRET.reveal().encode() not in sealed
    assert VAULT.seal(wrapped, 201, "key_a", SECRET) != sealed


def test_a_secret_moved_to_another_row_does_not_open():
    """Of another key, another network, with another data key, or changed by a bit."""
    wrapped = VAULT.new_data_key(201)
    sealed = VAULT.seal(wrapped, 201, "key_a", SECRET)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    foreign = VAULT.new_data_key(202)
    for attempt in (
        (wrapped, 201, "key_b", sealed),
        (wrapped, 202, "key_a", sealed),
        (foreign, 202, "key_a", sealed),
        (VAULT.new_data_key(201), 201, "key_a", sealed),
        (wrapped, 201, "key_a", flipped),
        (wrapped, 201, "key_a", b"short"),
    ):
        with pytest.raises(DamagedError):
            VAULT.open(*attempt)


def test_another_master_key_is_noticed_at_once():
    """Before a secret is sealed that the next process could not open."""
    check = VAULT.new_check()
    VAULT.require_same_key(check)
    with pytest.raises(SetupError, match=r"KEYS_MASTER_KEY: .* another key"):
        Vault(b"n" * 32).require_same_key(check)


def test_the_master_key_comes_from_the_variable_or_the_file(tmp_path: Path):
    """White space around it, as editors leave it, does not matter."""
    key = os.urandom(32)
    text = base64.b64encode(key).decode()
    file = tmp_path / "master"
    file.write_text(f"{text}\n")
    assert load_master_key(text, None) == load_master_key(None, file) == key


@pytest.mark.parametrize(
    "text", ["", "c2hvcnQ=", "not base64!", base64.b64encode(b"x" * 33).decode()]
)
def test_a_wrong_master_key_is_refused_without_repeating_it(text: str):
    """The message names the variable, never the value."""
    with pytest.raises(SetupError, match=r"^KEYS_MASTER_KEY: needs 32 bytes") as refusal:
        load_master_key(text, None)
    assert not text or text not in refusal.value.message


def test_no_master_key_or_two_are_refused(tmp_path: Path):
    """The message says how to make one."""
    for text, file in ((None, None), ("x", tmp_path / "master")):
        with pytest.raises(SetupError, match="exactly one"):
            load_master_key(text, file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    """With the reason."""
    with pytest.raises(
        SetupError, match=r"KEYS_MASTER_KEY_FILE: .*missing cannot be read: No such"
    ):
        load_master_key(None, tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match="not text"):
        load_master_key(None, tmp_path / "binary")
