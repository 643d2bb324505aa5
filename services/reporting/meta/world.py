"""Countries, currencies and languages: English names of the Unicode CLDR, ids of standards; pure.

A country's id is its number in ISO 3166, a currency's its code in ISO 4217. Languages have no
numbers: theirs is made of the two letters of ISO 639, `aa` being 1 and `zz` 676.
"""

from functools import cache
from typing import Final

from babel import Locale
from babel.core import get_global
from babel.numbers import get_territory_currencies

_ENGLISH: Final = Locale("en")
_NOT_COUNTRIES: Final = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})
"""Unions, outlying places and test regions among the CLDR's territories."""
_CODE_LENGTH: Final = 2


@cache
def countries() -> tuple[tuple[int, str, str], ...]:
    """Id, code and name of every country, by name."""
    numbers = {
        names[0]: int(code)
        for code, names in get_global("territory_aliases").items()
        if code.isdigit() and len(names) == 1
    }
    found = [
        (numbers[code], code, name)
        for code, name in _ENGLISH.territories.items()
        if code in numbers and len(code) == _CODE_LENGTH and code not in _NOT_COUNTRIES
    ]
    return tuple(sorted(found, key=lambda country: country[2]))


@cache
def _country_ids() -> dict[str, int]:
    return {code: number for number, code, _ in countries()}


def country_id(code: str) -> int:
    """The id of the country with this code; 0 if there is none."""
    return _country_ids().get(code, 0)


@cache
def currencies() -> tuple[tuple[str, str], ...]:
    """Code and name of every currency that is tender somewhere, by code."""
    codes = {currency for _, code, _ in countries() for currency in get_territory_currencies(code)}
    return tuple((code, _ENGLISH.currencies[code]) for code in sorted(codes))


@cache
def languages() -> tuple[tuple[int, str, str], ...]:
    """Id, code and name of every language with a code of two letters, by name."""
    found = [
        (26 * (ord(code[0]) - ord("a")) + ord(code[1]) - ord("a") + 1, code, name)
        for code, name in _ENGLISH.languages.items()
        if len(code) == _CODE_LENGTH
    ]
    return tuple(sorted(found, key=lambda language: language[2]))
