"""The firehose's settings, prefix `FIREHOSE_`."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from shared.access import parse_proxies
from shared.config import ServiceSettings


class FirehoseSettings(ServiceSettings):
    """What the firehose reads from its environment."""

    model_config = SettingsConfigDict(
        env_prefix="FIREHOSE_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8083, ge=0, le=65_535)
    """Port of the public door to streams."""

    trusted_proxies: str = ""
    """Addresses and CIDRs of our own proxies, comma-separated: only they are believed about
    `X-Forwarded-For`. Empty believes nobody."""

    stale_seconds: float = Field(30.0, gt=0)
    """How old the access tables may be before nobody may stream: a revoked key may stream that long
    from a firehose cut off from Kafka."""

    streams_per_partner_max: int = Field(3, ge=1)
    """Open streams of one partner on one replica; one more is answered 429."""

    catch_up_readers_max: int = Field(8, ge=1)
    """Streams that read the past at once; one more is answered 503. Each takes up to some 5 MB."""

    ring_bytes_max: int = Field(2 * 1024 * 1024, ge=1)
    """Recent records kept per partition, in bytes: 72 MB with 12 partitions and three types.
    Streams that lag less cost Kafka nothing."""

    batch_records_max: int = Field(500, ge=1)
    """Records written to a stream at once; more go out faster, fewer take less memory."""

    heartbeat_seconds: float = Field(15.0, gt=0)
    """How often a stream carries a heartbeat with its cursor: below the idle limit of proxies."""

    stall_seconds: float = Field(30.0, gt=0)
    """How long a client may take nothing before its stream is closed."""

    topic_check_seconds: float = Field(1.0, gt=0)
    """How often it is checked that no tracking topic was recreated."""

    sessions_max: int = Field(2_000, ge=1)
    """Session records that may wait for Kafka; streams are refused rather than go unrecorded."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        parse_proxies(value)
        return value
