"""Protects: a checkpoint is believed only if it was signed, and kept even through a crash."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from services.audit import chain, checkpoints
from shared.errors import InvalidError, SetupError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes([1] * 32))


def _signed(sequence: int = 3, digest: str = "aa", network_id: int = 1, key=KEY):
    return checkpoints.Signer(key).sign(network_id, chain.Head(sequence, digest), now=12.5)


def test_a_signed_checkpoint_is_genuine_under_its_key_only():
    """Positive control beside it."""
    checkpoint = _signed()
    assert checkpoints.is_genuine(checkpoint, KEY.public_key())
    assert not checkpoints.is_genuine(checkpoint, OTHER.public_key())


@pytest.mark.parametrize(
    "change",
    [{"sequence": 4}, {"hash": "ab"}, {"network_id": 2}, {"occurred_at": 13.0}, {"signature": "!"}],
)
def test_a_changed_checkpoint_is_not_genuine(change: dict[str, object]):
    """Every member is signed."""
    forged = msgspec.structs.replace(_signed(), **change)
    assert not checkpoints.is_genuine(forged, KEY.public_key())


def test_only_genuine_checkpoints_vouch_and_the_first_other_is_named():
    """The chain is still checked against those that are left."""
    found = [_signed(1), _signed(2, key=OTHER), _signed(3)]
    marks, problem = checkpoints.vouched(found, 1, KEY.public_key())
    assert [mark.sequence for mark in marks] == [1, 3]
    assert problem is not None
    assert (problem.kind, problem.sequence) == ("forged", 2)


def test_checkpoints_that_contradict_each_other_are_a_problem():
    """One key signed two histories."""
    _, problem = checkpoints.vouched([_signed(1, "aa"), _signed(1, "bb")], 1, KEY.public_key())
    assert problem is not None
    assert "another hash" in problem.detail


def test_a_checkpoint_of_another_network_does_not_vouch():
    """Files cannot be exchanged."""
    marks, problem = checkpoints.vouched([_signed(network_id=2)], 1, KEY.public_key())
    assert marks == []
    assert problem is not None


def test_the_journal_gives_back_what_was_appended(tmp_path):
    """Per network, in order."""
    journal = checkpoints.Journal(tmp_path / "new")
    journal.prepare()
    for checkpoint in (_signed(1), _signed(2), _signed(9, network_id=4)):
        journal.append(checkpoint)
    assert journal.networks() == [1, 4]
    assert journal.read(1) == [_signed(1), _signed(2)]
    assert journal.last(1) == _signed(2)
    assert (journal.read(5), journal.last(5)) == ([], None)


def test_a_line_cut_short_is_left_out_and_removed_by_the_next(tmp_path):
    """A crash while writing confirms nothing and spoils nothing."""
    journal = checkpoints.Journal(tmp_path)
    journal.append(_signed(1))
    with (tmp_path / "1.jsonl").open("ab") as file:
        file.write(b'{"network_id":1,"sequ')
    assert journal.read(1) == [_signed(1)]
    assert journal.last(1) == _signed(1)
    journal.append(_signed(2))
    assert journal.read(1) == [_signed(1), _signed(2)]


def test_the_last_line_of_a_long_journal_is_found(tmp_path):
    """Without reading the whole file, also when the reading begins within a line."""
    journal = checkpoints.Journal(tmp_path)
    lines = b"".join(msgspec.json.encode(_signed(number)) + b"\n" for number in range(1, 200))
    (tmp_path / "1.jsonl").write_bytes(lines + b"{cut")
    assert journal.last(1) == _signed(199)
    journal.append(_signed(200))
    assert len(journal.read(1)) == 200


def test_a_line_that_is_no_checkpoint_is_refused(tmp_path):
    """Somebody wrote into the file."""
    (tmp_path / "1.jsonl").write_bytes(b"hello\n")
    with pytest.raises(InvalidError):
        checkpoints.Journal(tmp_path).read(1)


def test_keys_are_read_from_pem_and_others_are_refused_with_a_reason(tmp_path):
    """The private file serves for verification too; a public one is enough for it."""
    private, public, wrong = (tmp_path / name for name in ("key.pem", "key.pub", "wrong.pem"))
    private.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    wrong.write_text("hello")
    expected = checkpoints.key_id(KEY.public_key())
    assert checkpoints.key_id(checkpoints.load_public_key(private)) == expected
    assert checkpoints.key_id(checkpoints.load_public_key(public)) == expected
    with pytest.raises(SetupError, match=r"AUDIT_SIGNING_KEY_FILE.*openssl"):
        checkpoints.load_signing_key(wrong)
    with pytest.raises(SetupError, match=r"wrong\.pem"):
        checkpoints.load_public_key(wrong)
