"""Daily rates of the networks' currencies, made of the day alone: told again they are the same."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

from shared.clock import utc
from shared.events import NetworkProfile, Rate

PAST_DAYS: Final = 100
"""As far back as simulated history may go, and the week before."""
AHEAD_DAYS: Final = 2
"""So that yesterday's announcement is enough on any day."""
_IN_DOLLARS: Final = {"USD": Decimal(1), "EUR": Decimal("1.0840"), "GBP": Decimal("1.2710")}


def rates(networks: Iterable[NetworkProfile], now: float) -> Iterator[Rate]:
    """What the other currencies are worth in each network's own, for each day around `now`."""
    today = utc(now).date()
    days = [today + timedelta(days=each) for each in range(-PAST_DAYS, AHEAD_DAYS + 1)]
    for network in networks:
        base = network.currency_id
        for currency in _IN_DOLLARS.keys() - {base}:
            for day in days:
                yield Rate(
                    network_id=network.network_id,
                    version=1,
                    base_currency_id=base,
                    currency_id=currency,
                    date=day.isoformat(),
                    rate=str(worth(currency, base, day)),
                )


def worth(currency: str, base: str, day: date) -> Decimal:
    """What a unit is worth in `base` that day: within one percent of the usual; six decimals."""
    if currency == base:
        return Decimal(1)
    seed = f"{currency}/{base}/{day.isoformat()}".encode()
    noise = int.from_bytes(hashlib.sha256(seed).digest()[:2], "big")
    moved = 1 + Decimal(noise - 2**15) / 2**15 / 100
    usual = _IN_DOLLARS[currency] / _IN_DOLLARS[base]
    return (usual * moved).quantize(Decimal("0.000001"))
