"""Protects how a body is read."""

import pytest

from services.reporting.asking.members import read_body
from shared.errors import InvalidError


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    """In one line, as an invalid parameter."""
    with pytest.raises(InvalidError, match="Invalid parameters"):
        read_body(raw)
