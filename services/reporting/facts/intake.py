"""The checks of each record on its way into the tables of facts and rates."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from shared import topics
from shared.errors import InvalidError
from shared.events import Click, Conversion, Impression, Rate, check_tracked, decode
from shared.kafka import Record

_SCHEMAS: Final[Mapping[str, type[Click | Impression | Conversion]]] = MappingProxyType(
    {
        topics.CLICKS.name: Click,
        topics.IMPRESSIONS.name: Impression,
        topics.CONVERSIONS.name: Conversion,
    }
)


def check_fact(record: Record[bytes, bytes]) -> None:
    """Prove that a record of a tracking topic is a fact of its key's partner (step 6).

    The event is let go at once, since the original bytes go on: holding those of a batch would cost
    as much as making them.

    Raises:
        InvalidError: it is not of its schema, or of another partner.
    """
    check_tracked(_SCHEMAS[record.topic], record.key, record.value)


def check_rate(record: Record[bytes, bytes]) -> None:
    """Prove that a record is a rate of its key's network, currency and day.

    Raises:
        InvalidError: it is not of its schema, or of another key; a rate is never removed.
    """
    rate = decode(Rate, record.value)
    key = f"{rate.network_id}:{rate.currency_id}:{rate.date}"
    if record.key != key.encode():
        raise InvalidError(f"Rate: key {record.key!r} is not that of the body")
