"""The one table of topics: names, keys, partitions, retention, event types and owners.

`apply` makes a cluster match it: idempotent, creates what is missing, corrects settings, and
refuses to change a partition count, since that would move keys to other partitions and break the
order of a partner's events. A new count is a new topic, `.v2`.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shared import events
from shared.clock import SystemClock
from shared.errors import SetupError, UnavailableError
from shared.kafka import Admin, ConfigResource, ConfigResourceType, NewTopic, open_admin, translated

DAY_MS: Final = 86_400_000
PARTNER_PARTITIONS: Final = 12
"""Partitions of every topic keyed `network:partner` where nothing else is set; 64 in production."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: `<owner>.<plural>.v<N>`.
        key: what the record key is made of.
        owner: the service, or outside platform, that alone produces it.
        schemas: of its values by `ce_type`; empty for faust's own tables.
        partitions: count; None means the count of all topics keyed `network:partner`.
        compacted: whether only the latest record of a key is kept.
        retention_ms: how long records are kept; None for compacted topics.
        log_append_time: whether the broker's clock stamps records.
        dead_letters: whether a `.dead` companion exists.
    """

    name: str
    key: str
    owner: str
    schemas: tuple[type[events.Event], ...] = ()
    partitions: int | None = None
    compacted: bool = False
    retention_ms: int | None = None
    log_append_time: bool = False
    dead_letters: bool = False
    extra: dict[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, str]:
        """The topic's settings as Kafka names them."""
        settings = {"cleanup.policy": "compact" if self.compacted else "delete"}
        if self.compacted:
            settings |= {
                "segment.ms": str(6 * 3_600_000),
                "min.cleanable.dirty.ratio": "0.3",
                "delete.retention.ms": str(7 * DAY_MS),
            }
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if self.log_append_time:
            settings["message.timestamp.type"] = "LogAppendTime"
        return settings | self.extra


def _tracking(plural: str, event: type[events.Event]) -> Topic:
    return Topic(
        name=f"tracking.{plural}.v1",
        key="network:partner",
        owner="the network's tracker",
        schemas=(event,),
        retention_ms=90 * DAY_MS,
        log_append_time=True,
        dead_letters=True,
    )


def _network(
    name: str, key: str, event: type[events.Event], partitions: int | None = PARTNER_PARTITIONS
) -> Topic:
    return Topic(
        name=f"network.{name}.v1",
        key=key,
        owner="the network's platform",
        schemas=(event,),
        partitions=partitions,
        compacted=True,
        dead_letters=True,
    )


KEYS_EVENTS: Final = Topic(
    name="keys.events.v1",
    key="network:partner",
    owner="keys",
    schemas=(
        events.KeyIssued,
        events.KeyReshared,
        events.ShareOpened,
        events.ShareWithdrawn,
        events.KeyRotated,
        events.KeyRevoked,
        events.KeyExpired,
        events.ExpiryChanged,
        events.AllowlistChanged,
        events.FirehoseEnabled,
        events.FirehoseDisabled,
        events.PartnerSuspended,
        events.PartnerResumed,
        events.BudgetChanged,
        events.SecretsRewrapped,
        events.AccessDenied,
    ),
    retention_ms=400 * DAY_MS,
    dead_letters=True,
)
KEYS_STATE: Final = Topic(
    name="keys.state.v1",
    key="key_id",
    owner="keys",
    schemas=(events.KeyState,),
    partitions=4,
    compacted=True,
)
PARTNERS_ACCESS: Final = Topic(
    name="partners.access.v1",
    key="network:partner",
    owner="keys",
    schemas=(events.PartnerAccess,),
    compacted=True,
)
NETWORKS_STATE: Final = Topic(
    name="networks.state.v1",
    key="network",
    owner="keys",
    schemas=(events.NetworkState,),
    partitions=1,
    compacted=True,
)
NETWORK_PROFILE: Final = _network("profile", "network", events.NetworkProfile, 1)
NETWORK_PARTNERS: Final = _network("partners", "network:partner", events.PartnerProfile, None)
NETWORK_RATES: Final = _network("rates", "network:currency:date", events.Rate, 1)
NETWORK_OFFERS: Final = _network("offers", "network:offer", events.Offer, 4)
NETWORK_OFFER_PARTNERS: Final = _network(
    "offer_partners", "network:offer:partner", events.OfferPartner, 4
)
NETWORK_REFERRALS: Final = _network("referrals", "network:referral", events.Referral, 4)
CLICKS: Final = _tracking("clicks", events.Click)
IMPRESSIONS: Final = _tracking("impressions", events.Impression)
CONVERSIONS: Final = _tracking("conversions", events.Conversion)
GATEWAY_ACCESS: Final = Topic(
    name="gateway.access.v1",
    key="network:partner",
    owner="gateway",
    schemas=(events.AccessSummary,),
    retention_ms=30 * DAY_MS,
    dead_letters=True,
)
GATEWAY_USAGE: Final = Topic(
    name="gateway.usage.v1",
    key="replica",
    owner="gateway",
    schemas=(events.Usage,),
    partitions=4,
    retention_ms=2 * 3_600_000,
    log_append_time=True,
)
FIREHOSE_SESSIONS: Final = Topic(
    name="firehose.sessions.v1",
    key="network:partner",
    owner="firehose",
    schemas=(events.SessionOpened, events.SessionClosed),
    retention_ms=400 * DAY_MS,
    dead_letters=True,
)
AUDIT_ANOMALIES: Final = Topic(
    name="audit.anomalies.v1",
    key="network:partner",
    owner="audit",
    schemas=(events.AnomalyOpened, events.AnomalyClosed),
    retention_ms=400 * DAY_MS,
    dead_letters=True,
)
AUDIT_RATE_LIMIT_HITS: Final = Topic(
    name="audit.rate_limit_hits.v1",
    key="network:partner",
    owner="audit",
    compacted=True,
)
AUDIT_CHECKPOINTS: Final = Topic(
    name="audit.checkpoints.v1",
    key="network",
    owner="audit",
    schemas=(events.Checkpoint,),
    partitions=1,
    retention_ms=400 * DAY_MS,
)

TRACKING: Final = {"clicks": CLICKS, "impressions": IMPRESSIONS, "conversions": CONVERSIONS}
"""The raw events by the names that partners use for them."""

SOURCES: Final = (
    KEYS_EVENTS,
    KEYS_STATE,
    PARTNERS_ACCESS,
    NETWORKS_STATE,
    NETWORK_PROFILE,
    NETWORK_PARTNERS,
    NETWORK_RATES,
    NETWORK_OFFERS,
    NETWORK_OFFER_PARTNERS,
    NETWORK_REFERRALS,
    CLICKS,
    IMPRESSIONS,
    CONVERSIONS,
    GATEWAY_ACCESS,
    GATEWAY_USAGE,
    FIREHOSE_SESSIONS,
    AUDIT_ANOMALIES,
    AUDIT_RATE_LIMIT_HITS,
    AUDIT_CHECKPOINTS,
)


def dead_letter_topic(name: str) -> str:
    """The topic that takes the refused records of topic `name`."""
    return f"{name}.dead"


def _dead(topic: Topic) -> Topic:
    return Topic(
        name=dead_letter_topic(topic.name),
        key=topic.key,
        owner="whoever refused the record",
        partitions=1,
        retention_ms=30 * DAY_MS,
    )


TOPICS: Final[tuple[Topic, ...]] = (
    *SOURCES,
    *(_dead(topic) for topic in SOURCES if topic.dead_letters),
)
"""Every topic of the platform."""


@dataclass(frozen=True, slots=True)
class ApplyReport:
    """What `apply` did, by topic name."""

    created: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


async def apply(
    bootstrap: str,
    *,
    replication: int = 1,
    partner_partitions: int = PARTNER_PARTITIONS,
    table: Sequence[Topic] = TOPICS,
) -> ApplyReport:
    """Make the cluster's topics match `table`.

    Args:
        bootstrap: Kafka's `host:port`.
        replication: copies of each partition; 3 in production.
        partner_partitions: partitions of all topics keyed `network:partner`.
        table: what should exist; topics outside it are left alone.

    Raises:
        SetupError: a topic has another partition count, or Kafka refused a change.
        UnavailableError: Kafka does not answer.
    """
    async with open_admin(bootstrap) as admin:
        with translated("reading the topics of the cluster"):
            present = {item["topic"]: item for item in await admin.describe_topics()}
        counts = {topic.name: topic.partitions or partner_partitions for topic in table}
        for topic in table:
            if topic.name in present:
                _refuse_other_count(
                    topic, counts[topic.name], len(present[topic.name]["partitions"])
                )
        missing = [topic for topic in table if topic.name not in present]
        await _create(admin, missing, counts, replication)
        changed = await _correct(admin, [topic for topic in table if topic.name in present])
    created = tuple(topic.name for topic in missing)
    touched = {*created, *changed}
    return ApplyReport(
        created, changed, tuple(topic.name for topic in table if topic.name not in touched)
    )


def _refuse_other_count(topic: Topic, wanted: int, found: int) -> None:
    if wanted != found:
        raise SetupError(
            f"Topic {topic.name} has {found} partitions, the table says {wanted}. A count never "
            "changes, since keys would move: set the count back, or introduce a .v2 topic."
        )


async def _create(
    admin: Admin, missing: Sequence[Topic], counts: dict[str, int], replication: int
) -> None:
    if not missing:
        return
    wanted = [
        NewTopic(topic.name, counts[topic.name], replication, topic_configs=topic.config())
        for topic in missing
    ]
    with translated("creating topics"):
        response: Any = await admin.create_topics(wanted)
    for name, code, message, *_ in response.topic_errors:
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            raise SetupError(f"Kafka refused to create topic {name}: {message} (error {code}).")
    await _wait_until_known(admin, [topic.name for topic in missing])


_TOPIC_ALREADY_EXISTS: Final = 36
_KNOWN_SECONDS: Final = 30.0


async def _wait_until_known(admin: Admin, names: Iterable[str]) -> None:
    """Creation is answered before every broker knows of it: ask until all have leaders."""
    waiting = set(names)
    try:
        async with asyncio.timeout(_KNOWN_SECONDS):
            while waiting:
                with translated("waiting for new topics"):
                    described = await admin.describe_topics(sorted(waiting))
                waiting -= {item["topic"] for item in described if _has_leaders(item)}
                await SystemClock().sleep(0.01)
    except TimeoutError as error:
        raise UnavailableError(
            f"Kafka created {sorted(waiting)} but names no leader for them yet."
        ) from error


def _has_leaders(item: dict[str, object]) -> bool:
    partitions = item["partitions"]
    return (
        item["error_code"] == 0
        and isinstance(partitions, list)
        and bool(partitions)
        and all(partition["leader"] >= 0 for partition in partitions)
    )


async def _correct(admin: Admin, topics: Sequence[Topic]) -> tuple[str, ...]:
    """Set what differs; a topic's other dynamic settings fall back to the broker's."""
    if not topics:
        return ()
    found = await _settings_of(admin, [topic.name for topic in topics])
    differing = [
        topic
        for topic in topics
        if any(found[topic.name].get(name) != value for name, value in topic.config().items())
    ]
    if differing:
        with translated("changing topic settings"):
            responses: list[Any] = await admin.alter_configs(
                [
                    ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.config())
                    for topic in differing
                ]
            )
        for response in responses:
            for code, message, _, name in response.resources:
                if code:
                    raise SetupError(f"Kafka refused the settings of {name}: {message}.")
    return tuple(topic.name for topic in differing)


async def _settings_of(admin: Admin, names: Sequence[str]) -> dict[str, dict[str, str]]:
    with translated("reading topic settings"):
        responses: list[Any] = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
