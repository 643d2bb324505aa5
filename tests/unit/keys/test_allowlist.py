"""Protects the allowlist: what staff write means one thing, and a wrong entry is named."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.keys.allowlist import ENTRIES_MAX, canonical
from shared.access import parse_address, parse_allowlist
from shared.errors import InvalidError


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_an_entry_is_kept_in_its_shortest_form(written: str, kept: str):
    """However it was written; the form is stable when it is read again."""
    assert canonical([written]) == (kept,)
    assert canonical([kept]) == (kept,)


@pytest.mark.parametrize(
    "written",
    [
        "300.1.1.1",
        "",
        "crm.example",
        "192.0.2.0/33",
        "192.0.2.1-192.0.2.9",
        "010.0.0.1",
        "fe80::1%eth0",
    ],
)
def test_a_wrong_entry_is_refused_by_name(written: str):
    """The message repeats it, so that one of fifty can be found."""
    with pytest.raises(InvalidError) as refusal:
        canonical(["192.0.2.7", written])
    assert repr(written) in refusal.value.message


def test_a_network_with_host_bits_is_refused_with_both_readings():
    """One address was meant, or the network: only the writer knows."""
    with pytest.raises(InvalidError, match=r"write 192\.0\.2\.0/24 .* or 192\.0\.2\.7 "):
        canonical(["192.0.2.7/24"])


def test_a_long_wrong_entry_is_cut_in_its_message():
    """An answer stays readable."""
    with pytest.raises(InvalidError) as refusal:
        canonical(["x" * 5_000])
    assert len(refusal.value.message) < 300


def test_fifty_entries_are_allowed_and_not_one_more():
    """Repeated ones are kept once, in their first place."""
    many = [f"192.0.2.{number}" for number in range(ENTRIES_MAX)]
    assert canonical(many) == tuple(many)
    assert canonical(["192.0.2.9", "192.0.2.8", "192.0.2.9/32"]) == ("192.0.2.9", "192.0.2.8")
    with pytest.raises(InvalidError, match="51 entries"):
        canonical([*many, "192.0.2.200"])


@given(st.ip_addresses(), st.data())
def test_the_doors_read_an_entry_as_it_was_meant(address, data):
    """An address, or any network around it, admits that address at the doors.

    A network of IPv6 that is wider than all of IPv4 wrapped into it means IPv6 alone.
    """
    wrapped = address.version == 6 and address.ipv4_mapped is not None
    bits = data.draw(st.integers(96 if wrapped else 0, address.max_prefixlen))
    around = ipaddress.ip_network((address, bits), strict=False)
    seen = parse_address(str(address))
    for entry in (str(address), str(around)):
        (allowed,) = parse_allowlist(canonical([entry]))
        assert seen in allowed
