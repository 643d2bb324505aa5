"""Protects the secrets at rest: only the right master key opens them, each only in its own place."""

import pickle

import pytest

from services.keys.vault import DamagedError, DataKey, MasterKey, Vault
from shared import partner_key
from shared.errors import UnavailableError

OLD, NEW = MasterKey(b"m" * 32), MasterKey(b"n" * 32)
VAULT = Vault([OLD])
SECRET = partner_key.generate()


def data_key(network_id: int = 201, vault: Vault = VAULT, under: MasterKey = OLD) -> DataKey:
    return vault.new_data_key(network_id, under.fingerprint)


def test_a_sealed_secret_opens_again():
    """For the same network and key; the sealed text shows nothing of it."""
    wrapped = data_key()
    sealed = VAULT.seal(wrapped, 201, "key_a", SECRET)
    assert VAULT.open(wrapped, 201, "key_a", sealed) == SECRET
    assert SECRET.reveal().encode() not in sealed
    assert VAULT.seal(wrapped, 201, "key_a", SECRET) != sealed


def test_a_secret_moved_to_another_row_does_not_open():
    """Of another key, another network, with another data key, or changed by a bit."""
    wrapped = data_key()
    sealed = VAULT.seal(wrapped, 201, "key_a", SECRET)
    flipped = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for attempt in (
        (wrapped, 201, "key_b", sealed),
        (wrapped, 202, "key_a", sealed),
        (data_key(202), 202, "key_a", sealed),
        (data_key(), 201, "key_a", sealed),
        (wrapped, 201, "key_a", flipped),
        (wrapped, 201, "key_a", b"short"),
        (DataKey(wrapped.wrapped[:-1], wrapped.master_key), 201, "key_a", sealed),
    ):
        with pytest.raises(DamagedError):
            VAULT.open(*attempt)


def test_a_rewrapped_data_key_opens_what_it_sealed_under_the_new_master_key_alone():
    """The secrets themselves stay as they are; the old master key is of no use any more."""
    both = Vault([NEW, OLD])
    before = data_key(vault=both)
    sealed = both.seal(before, 201, "key_a", SECRET)
    after = both.rewrapped(before, 201, NEW.fingerprint)
    assert after.master_key == NEW.fingerprint
    assert Vault([NEW]).open(after, 201, "key_a", sealed) == SECRET
    with pytest.raises(UnavailableError):
        Vault([OLD]).open(after, 201, "key_a", sealed)
    with pytest.raises(DamagedError):  # nor if somebody changes the name beside it
        Vault([OLD]).open(DataKey(after.wrapped, OLD.fingerprint), 201, "key_a", sealed)


def test_a_rewrapped_data_key_stays_its_networks():
    """A rotation cannot be used to move a data key to another network."""
    both = Vault([NEW, OLD])
    with pytest.raises(DamagedError):
        both.rewrapped(data_key(vault=both), 202, NEW.fingerprint)


def test_a_master_key_not_held_is_our_trouble_and_passes():
    """A process that has not read the new file yet says so, and nothing is called damaged."""
    after = data_key(vault=Vault([NEW]), under=NEW)
    late = Vault([OLD])
    with pytest.raises(UnavailableError):
        late.seal(after, 201, "key_a", SECRET)
    with pytest.raises(UnavailableError):
        late.new_data_key(201, NEW.fingerprint)
    late.hold([NEW, OLD])
    late.require_opens(after, 201)


def test_a_data_key_from_before_fingerprints_opens_under_whichever_key_it_is_under():
    """An earlier release kept no name beside it."""
    unnamed = DataKey(data_key().wrapped, "")
    Vault([NEW, OLD]).require_opens(unnamed, 201)
    with pytest.raises(DamagedError):
        Vault([NEW]).require_opens(unnamed, 201)


def test_another_master_key_is_told_by_the_check():
    """So that what an earlier release left is recognised, or the start refused."""
    check = VAULT.new_check(OLD.fingerprint)
    assert Vault([NEW, OLD]).opener_of(check) == OLD.fingerprint
    assert Vault([NEW]).opener_of(check) is None


def test_a_master_key_shows_its_fingerprint_and_nothing_else():
    """However it is printed; equal keys have equal fingerprints, and others have others."""
    for shown in (repr(OLD), str(OLD), f"{OLD}"):
        assert shown == f"MasterKey({OLD.fingerprint})"
    assert MasterKey(b"m" * 32) == OLD
    assert OLD != NEW
    assert len({OLD.fingerprint, NEW.fingerprint, MasterKey(b"m" * 32).fingerprint}) == 2
    with pytest.raises(TypeError):
        pickle.dumps(OLD)


@pytest.mark.parametrize("raw", [b"", b"short", b"x" * 33])
def test_a_master_key_of_another_length_is_none(raw: bytes):
    """Nothing is padded or cut."""
    with pytest.raises(ValueError, match="32 bytes"):
        MasterKey(raw)
