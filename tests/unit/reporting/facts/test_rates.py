"""Protects the way of rates in: each of its key, of a day that there is, of a currency's worth."""

import json
from typing import Any

import pytest

from services.reporting.facts.intake import check_rate
from shared.errors import InvalidError
from shared.kafka import Record

RATE = {
    "network_id": 1,
    "version": 1,
    "base_currency_id": "USD",
    "currency_id": "EUR",
    "date": "2026-03-20",
    "rate": "1.0834567891",
}


def record(key: bytes | None = b"1:EUR:2026-03-20", **change: Any) -> Record[bytes, bytes]:
    value = json.dumps(RATE | change).encode()
    return Record("network.rates.v1", 0, 0, 0, 0, key, value, None, 0, 0, ())


def test_a_rate_of_its_key_is_let_in() -> None:
    """The control to the refusals."""
    check_rate(record())


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": "0"},
        {"rate": "0.0000000000"},
        {"rate": "-1"},
        {"rate": "1.00000000001"},
        {"rate": 1.08},
        {"rate": "1e3"},
        {"date": "2026-02-30"},
        {"date": "20.03.2026"},
        {"currency_id": "eur"},
        {"network_id": 2},
        {"note": "unknown"},
    ],
)
def test_what_is_no_rate_of_its_key_is_refused(wrong: dict[str, Any]) -> None:
    """A rate is a text, so that none is ever read as a double."""
    with pytest.raises(InvalidError):
        check_rate(record(**wrong))


def test_a_rate_of_another_key_or_none_is_refused() -> None:
    """It would hide the rate whose key it has when the topic is compacted."""
    for key in (None, b"1:EUR:2026-03-21", b"1:GBP:2026-03-20"):
        with pytest.raises(InvalidError):
            check_rate(record(key))
