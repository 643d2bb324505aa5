"""Protects the names by which requests are told apart."""

from itertools import islice

from services.gateway.request_ids import AT_ONCE, request_ids


def test_ids_are_many_and_never_the_same():
    """Across refills, and from two processes that begin alike."""
    found = [*islice(request_ids(), 3 * AT_ONCE), *islice(request_ids(), 10)]
    assert len(set(found)) == 3 * AT_ONCE + 10
    assert {len(each) for each in found} == {32}
    assert all(int(each, 16) >= 0 for each in found)
