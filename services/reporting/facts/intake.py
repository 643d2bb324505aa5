"""The check of each record on its way into the fact tables."""

from shared import topics
from shared.events import Click, Conversion, Impression, Tracked, check_tracked
from shared.kafka import Record


def check_fact(record: Record[bytes, bytes]) -> Tracked:
    """The fact in a record of a tracking topic, proved to be of its key's partner (step 6).

    Raises:
        InvalidError: it is not of its schema, or of another partner.
    """
    if record.topic == topics.CLICKS.name:
        return check_tracked(Click, record.key, record.value)
    if record.topic == topics.IMPRESSIONS.name:
        return check_tracked(Impression, record.key, record.value)
    return check_tracked(Conversion, record.key, record.value)
