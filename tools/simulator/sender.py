"""Brings the ledger's records to Kafka in the order of the ledger, until the broker has them all.

Order holds per partner and type as long as Kafka takes every batch; after a failure the whole
unconfirmed rest is sent again, which may repeat records on the log but never loses one.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from shared.clock import Clock
from shared.errors import UnavailableError
from shared.events import Event, encode, headers
from shared.faultpoint import point
from shared.kafka import Producer, translated
from shared.topics import (
    NETWORK_OFFER_PARTNERS,
    NETWORK_OFFERS,
    NETWORK_PARTNERS,
    NETWORK_PROFILE,
    NETWORK_RATES,
    NETWORK_REFERRALS,
    TRACKING,
)
from tools.simulator.cast import Cast
from tools.simulator.ledger import Ledger, Queued
from tools.simulator.rates import rates

log = logging.getLogger(__name__)

SOURCE: Final = "portico/simulator"
BATCH_RECORDS_MAX: Final = 2_000
RETRY_SECONDS: Final = 1.0

Outgoing = tuple[str, str, bytes, Sequence[tuple[str, bytes]]]
"""Topic, key, value, headers."""


class Sender:
    """The only one that hands records to the producer."""

    def __init__(self, producer: Producer, ledger: Ledger, clock: Clock) -> None:
        self._producer = producer
        self._ledger = ledger
        self._clock = clock

    async def announce(self, cast: Cast) -> None:
        """Put the master data on the log; the same versions again change nothing."""
        await self._insist(list(_announcements(cast, self._clock.time())))

    async def flush(self) -> int:
        """Send until the ledger's queue is empty; how many records the broker confirmed."""
        confirmed = 0
        while batch := self._ledger.queued(BATCH_RECORDS_MAX):
            point("simulator.before_send")
            await self._insist([self._outgoing(record) for record in batch])
            point("simulator.after_send")
            self._ledger.confirm(batch[-1].sequence)
            confirmed += len(batch)
        return confirmed

    def _outgoing(self, record: Queued) -> Outgoing:
        topic = TRACKING[record.kind]
        found = headers(
            topic.schemas[0],
            source=SOURCE,
            occurred_at=self._clock.time(),
            event_id=f"simulator-{self._ledger.begun_at}-{record.sequence}",
        )
        return topic.name, record.key, record.value, found

    async def _insist(self, records: Sequence[Outgoing]) -> None:
        while True:
            try:
                return await self._send(records)
            except UnavailableError as error:
                log.warning("kafka unavailable", extra={"reason": error.message})
                await self._clock.sleep(RETRY_SECONDS)

    async def _send(self, records: Sequence[Outgoing]) -> None:
        with translated("sending simulated traffic"):
            waiting = [
                await self._producer.send(topic, value, key=key.encode(), headers=list(found))
                for topic, key, value, found in records
            ]
            await asyncio.wait(waiting)
            for one in waiting:
                one.result()


def _announcements(cast: Cast, now: float) -> Iterable[Outgoing]:
    for network in cast.networks:
        yield _announcement(NETWORK_PROFILE.name, f"{network.network_id}", network, now)
    for rate in rates(cast.networks, now):
        key = f"{rate.network_id}:{rate.currency_id}:{rate.date}"
        yield _announcement(NETWORK_RATES.name, key, rate, now)
    for partner in cast.partners:
        key = f"{partner.network_id}:{partner.network_affiliate_id}"
        yield _announcement(NETWORK_PARTNERS.name, key, partner, now)
    for offer in cast.offers:
        key = f"{offer.network_id}:{offer.network_offer_id}"
        yield _announcement(NETWORK_OFFERS.name, key, offer, now)
    for terms in cast.offer_partners:
        key = f"{terms.network_id}:{terms.network_offer_id}:{terms.network_affiliate_id}"
        yield _announcement(NETWORK_OFFER_PARTNERS.name, key, terms, now)
    for referral in cast.referrals:
        key = f"{referral.network_id}:{referral.referral_history_id}"
        yield _announcement(NETWORK_REFERRALS.name, key, referral, now)


def _announcement(topic: str, key: str, event: Event, now: float) -> Outgoing:
    return topic, key, encode(event), headers(event, source=SOURCE, occurred_at=now)
