"""Amounts as the wire has them: the shortest exact JSON number, never a float."""

from decimal import Decimal

import msgspec


def number(value: Decimal | int) -> int | msgspec.Raw:
    """`value` as the shortest exact JSON number: 25.996, 12.5, 3."""
    if isinstance(value, int):
        return value
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return msgspec.Raw(b"0" if text in ("-0", "") else text.encode())
