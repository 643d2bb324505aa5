"""Protects the entry of partners: a record counts only for the partner that its key names."""

import pytest

from services.keys.partners import check_partner
from services.keys.store import Removed
from shared import events
from shared.errors import InvalidError
from tests.keys_parts import partner


class Record:
    def __init__(self, key: bytes | None, value: bytes | None) -> None:
        self.key = key
        self.value = value


def test_a_partner_is_taken_under_its_own_key():
    """Whole, as its schema says."""
    profile = partner(201, 7, has_fraud_flag=True)
    assert check_partner(Record(b"201:7", events.encode(profile))) == profile


@pytest.mark.parametrize("key", [b"201:8", b"202:7", b"", None, b"\xff"])
def test_a_partner_under_another_key_is_refused(key: bytes | None):
    """A flag meant for one partner must not reach another."""
    with pytest.raises(InvalidError, match="not that of the body"):
        check_partner(Record(key, events.encode(partner(201, 7))))


def test_a_tombstone_removes_the_partner_of_its_key():
    """And only a key that names one can."""
    assert check_partner(Record(b"201:7", None)) == Removed(201, 7)
    for key in (b"201", b"201:7:9", b"a:7", b":", None):
        with pytest.raises(InvalidError, match="names no partner"):
            check_partner(Record(key, None))
