"""Protects where the page of a request is looked for."""

from typing import Any

import pytest

from services.reporting.asking.pages import read_page
from shared.errors import InvalidError


@pytest.mark.parametrize(
    ("parameters", "body", "expected"),
    [
        ({}, {}, (1, 50)),
        ({"page": "3", "page_size": "100"}, {"page": 9, "page_size": 9}, (3, 100)),
        ({}, {"page": 2, "page_size": "20", "paging": {"page": 7}}, (2, 20)),
        ({}, {"paging": {"page": 4, "page_size": 30}, "limit": 1}, (4, 30)),
        ({}, {"pagination": {"page": 5, "page_size": 10}}, (5, 10)),
        ({}, {"page": 2, "limit": 25}, (2, 25)),
        ({"page_size": "-1"}, {}, (1, 2_000)),
        ({"page": "0", "page_size": "0"}, {}, (1, 50)),
        ({"page_size": "99999"}, {}, (1, 2_000)),
    ],
)
def test_the_page_is_taken_where_programs_put_it(
    parameters: dict[str, str], body: dict[str, Any], expected: tuple[int, int]
) -> None:
    """Query string, body, `paging`, `pagination`, `limit`, in this order; sizes are clamped."""
    page = read_page(body, parameters)
    assert (page.number, page.size) == expected


def test_a_page_that_is_no_number_is_refused() -> None:
    """Rather than answered with the first."""
    with pytest.raises(InvalidError, match="page: must be a whole number"):
        read_page({}, {"page": "two"})
