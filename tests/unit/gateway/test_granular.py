"""Protects the hourly budget from reports that one service reads otherwise than the other."""

import json

import pytest

from services.gateway.granular import is_granular
from services.reporting.asking.members import read_body
from services.reporting.facts.columns import ALIASES, COLUMNS
from services.reporting.reports.domain import read_report

INTERVAL = {"from": "2026-11-01", "to": "2026-11-07", "timezone_id": 67, "currency_id": "USD"}
COARSE = {"offer", "creative", "hour", "date", "day", "week", "month", "year"}
"""What a report may group by without drawing on the hourly budget."""


@pytest.mark.parametrize("name", sorted({*COLUMNS, *ALIASES}))
def test_whichever_way_a_report_names_a_column_it_costs_the_same(name):
    """Reporting takes objects and bare names; the gateway must see through both."""
    for column in (name, {"column": name}):
        content = json.dumps(INTERVAL | {"columns": [column]}).encode()
        assert read_report(read_body(content)).names == (name,)
        assert is_granular(content) == (name not in COARSE), column
