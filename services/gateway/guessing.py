"""Guessing keys: whoever sends one key after another that opens nothing is slowed down.

An address may fail so often at once and so often a second; what fails beyond is answered with 429
and `Retry-After`, and told in the summaries as `guessing`. Every key that is answered `Unable to
authenticate request` is a failure, be it malformed, unknown, revoked, expired or not yet valid: if
one of them were treated better, the difference would tell which it is.

A key that opens is never asked about here. So nobody can lock a partner out by guessing from an
address they share, whether an office, a data centre or a proxy we were not told of.

Where it ends: who guesses right gets in, however often they failed before; against that stand a
key's 160 random bits, not this. Each gateway counts for itself. An IPv6 caller is known by the /64,
since who has one address of it mostly has all; an attacker with more networks than `ADDRESSES_MAX`
starts anew with each.
"""

import ipaddress
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from msgspec.structs import replace

from services.gateway.domain import Rejection, over_budget
from services.gateway.limiter import Limiter
from shared.clock import Clock
from shared.events import Budget

ADDRESSES_MAX: Final = 10_000
"""Addresses whose failures are remembered; of more, the longest quiet are forgotten."""
POLICY: Final = "failed-keys"
GUESSING: Final = "guessing"
"""The refusal of an unknown key from an address that guesses."""
_PREFIX_BITS: Final = 64


class Guesses:
    """Failures by address.

    Args:
        clock: the time.
        budget: how often an address may fail.
    """

    def __init__(self, clock: Clock, budget: Budget) -> None:
        self._budget = budget
        self._failures = Limiter(clock, buckets_max=ADDRESSES_MAX)

    def answer(self, rejection: Rejection, address: str) -> Rejection:
        """The answer to a request from `address` that is refused with `rejection`.

        Any refusal but 401 stays as it is. The reason is kept where a key's owner is known: a
        revoked key still in use is told as such.
        """
        if rejection.status != HTTPStatus.UNAUTHORIZED:
            return rejection
        verdict = self._failures.take(origin(address), self._budget)
        if verdict.admitted:
            return rejection
        slowed = over_budget(verdict, POLICY)
        wait = max(verdict.reset_seconds, 1)
        return replace(
            slowed,
            text=f"Too many keys from this address that open nothing; come again in {wait} s.",
            reason=GUESSING if rejection.reason == "unknown" else rejection.reason,
        )


@lru_cache(maxsize=1024)
def origin(address: str) -> str:
    """Whom an address stands for: itself, or its /64; what is no address stands for itself."""
    try:
        network = ipaddress.IPv6Network((address, _PREFIX_BITS), strict=False)
    except ValueError:
        return address
    return str(network)
