"""Protects programs that read the budget's headers by a structured-fields library (RFC 9651)."""

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.domain import Passage
from services.gateway.limiter import Verdict
from tests.door_parts import rates
from tests.rate_parts import items

_numbers = st.integers(0, 10**12)
_verdicts = st.builds(
    Verdict,
    admitted=st.booleans(),
    over=st.booleans(),
    quota=_numbers,
    remaining=_numbers,
    reset_seconds=_numbers,
    window_seconds=_numbers,
)


@given(_verdicts, st.none() | _verdicts)
def test_both_headers_are_lists_of_named_items_with_whole_parameters(verdict, granular):
    """What was decided reads back exactly, by a library that knows nothing of us."""
    passage = Passage(None, "203.0.113.7", verdict=verdict, granular=granular)
    headers = dict(rates(passage))
    wanted = {"affiliate": verdict} | ({} if granular is None else {"granular": granular})
    policies = http_sf.parse(headers[b"ratelimit-policy"], tltype="list")
    states = http_sf.parse(headers[b"ratelimit"], tltype="list")
    rules = [(name, {"q": one.quota, "w": one.window_seconds}) for name, one in wanted.items()]
    left = [(name, {"r": one.remaining, "t": one.reset_seconds}) for name, one in wanted.items()]
    assert (policies, states) == (rules, left)


@pytest.mark.parametrize("text", ['"a";q=1;w=2, "b c";r=0;t=99', '"affiliate";q=20;w=4'])
def test_our_own_reader_of_them_agrees(text):
    """The one that the tests of the gateway use."""
    assert list(items(text).items()) == http_sf.parse(text.encode(), tltype="list")
