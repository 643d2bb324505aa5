"""Pages by number, as the public API counts them."""

from dataclasses import dataclass
from typing import Final

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 2_000
PAGE_MAX: Final = 1_000_000_000
"""Keeps the offset within what a store can count."""


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows to answer; `number` is 1-based, both are the positive numbers used."""

    number: int = 1
    size: int = PAGE_SIZE_DEFAULT

    @classmethod
    def asked(cls, number: int | None, size: int | None) -> "Page":
        """The page for what a caller sent.

        A size of 0 or none means 50, a negative one the maximum, and a larger one is cut to it.
        """
        size = size or PAGE_SIZE_DEFAULT
        size = PAGE_SIZE_MAX if size < 0 else min(size, PAGE_SIZE_MAX)
        return cls(min(max(number or 1, 1), PAGE_MAX), size)

    @property
    def offset(self) -> int:
        """How many rows stand before it."""
        return (self.number - 1) * self.size

    def echo(self, total_count: int) -> dict[str, int]:
        """The `paging` member of an answer."""
        return {"page": self.number, "page_size": self.size, "total_count": total_count}
