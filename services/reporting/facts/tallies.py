"""What a fact counts as, in one small number that is stored with it: its tally.

Facts of equal tallies count alike in every report, so a report may group by the tally, add up
groups without looking at a row, and judge each group once. `Which` says which tallies are meant, to
the engine and to us alike.

Bits, from the lowest: three for the outcome of a click or the status of a conversion, then one each
for redirected traffic, an event, a view-through conversion and an amount that is not 0; from the
ninth on the currency, whose three letters are a byte each.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, get_args

from shared.events import ConversionStatus

TALLY: Final = "tally"
"""The column that has it."""
UNIQUE, DUPLICATE, INVALID = range(3)
"""The outcomes of a click."""
STATUSES: Final[tuple[str, ...]] = get_args(ConversionStatus)

_KIND: Final = 0b111
REDIRECTED: Final = 1 << 3
EVENT: Final = 1 << 4
VIEW_THROUGH: Final = 1 << 5
AMOUNT: Final = 1 << 6
_CURRENCY_SHIFT: Final = 8

_COMMON: Final = (
    f"is_redirect_traffic * {REDIRECTED} + (revenue != 0) * {AMOUNT}"
    f" + bitShiftLeft(reinterpretAsUInt32(currency_id), {_CURRENCY_SHIFT})"
)
OF_CLICK: Final = (
    f"multiIf(error_code != 0, {INVALID}, is_unique = 1, {UNIQUE}, {DUPLICATE}) + {_COMMON}"
)
"""Expressions for it over the columns of a table."""
OF_IMPRESSION: Final = _COMMON
OF_CONVERSION: Final = (
    f"indexOf({list(STATUSES)}, toString(status)) + is_event * {EVENT}"
    f" + is_view_through * {VIEW_THROUGH} + {_COMMON}"
)


@dataclass(frozen=True, slots=True)
class Which:
    """Some of the facts of a kind: those whose tally, as far as `mask`, is one of `values`."""

    mask: int = 0
    values: frozenset[int] = frozenset({0})

    def holds(self, tally: int) -> bool:
        """Whether facts of this tally are meant."""
        return tally & self.mask in self.values

    def sql(self, tally: str) -> str:
        """The same as a condition on an expression; empty if all facts are meant."""
        if not self.mask:
            return ""
        some = f"bitAnd({tally}, {self.mask})"
        if len(self.values) == 1:
            return f"{some} = {min(self.values)}"
        return f"{some} IN ({', '.join(map(str, sorted(self.values)))})" if self.values else "0"


def which(
    *, outcomes: Collection[int] = (), statuses: Collection[str] | None = None, **flags: bool
) -> Which:
    """The facts of one of these outcomes or statuses (of any if not given) with these flags.

    Args:
        outcomes: of a click.
        statuses: of a conversion; with none of them nothing is meant.
        flags: `redirected`, `event`, `view_through`, `amount`, and whether a fact has it.
    """
    bits = {
        "redirected": REDIRECTED,
        "event": EVENT,
        "view_through": VIEW_THROUGH,
        "amount": AMOUNT,
    }
    kinds = set(outcomes) if statuses is None else {STATUSES.index(each) + 1 for each in statuses}
    is_any = statuses is None and not outcomes
    wanted = sum(bits[name] for name, is_set in flags.items() if is_set)
    return Which(
        sum(bits[name] for name in flags) | (0 if is_any else _KIND),
        frozenset(kind | wanted for kind in ({0} if is_any else kinds)),
    )


def currency(currency_id: str) -> int:
    """The currency's part of a tally, as `currency_of` gives it."""
    return int.from_bytes(currency_id.encode(), "little")


def currency_of(tally: int) -> int:
    """The currency's part of a tally."""
    return tally >> _CURRENCY_SHIFT


def currency_in(tally: str) -> str:
    """An expression for the currency's part of an expression for a tally."""
    return f"bitShiftRight({tally}, {_CURRENCY_SHIFT})"
