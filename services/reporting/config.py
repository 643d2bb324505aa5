"""Settings of the reporting service."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.config import IdentitySettings, ServiceSettings, shared_field


class ReportingSettings(IdentitySettings, ServiceSettings):
    """The API with its projections (prefix `REPORTING_`)."""

    model_config = SettingsConfigDict(
        env_prefix="REPORTING_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8082, ge=0, le=65_535)
    """Port the service listens on; 0 lets the system choose."""

    db_schema: str = "reporting"
    """Postgres schema that holds the things; also the first part of the consumer groups."""

    clickhouse_url: SecretStr | None = shared_field("CLICKHOUSE_URL", None)
    """A ClickHouse server, as `http[s]://user:password@host:port`; none for the embedded engine."""

    clickhouse_path: Path = Path(".portico/clickhouse")
    """Folder of the embedded engine; one process at a time may use it."""

    clickhouse_database: str = "reporting"
    """Database that holds the facts."""

    clickhouse_engine: str = "ReplacingMergeTree({version})"
    """Engine of the fact tables, `{version}` being the column that decides between two rows of an
    id; a cluster sets `ReplicatedReplacingMergeTree(<path>, <replica>, {version})`."""

    queries_max: int = Field(3, ge=1, le=64)
    """Reports that run at once; others wait in fair turns, and a partner never has all of them.
    Each may use two threads and 800 MB, which a report by a column that is unique per click can
    need."""

    query_seconds: float = Field(20.0, gt=0, le=300)
    """How long a report may run; beyond it the partner is told to ask for less. Stay below the
    gateway's time-out, or its answer comes first."""

    export_header_if_empty: bool = True
    """Whether a CSV export without rows has its header line; without it the body is empty."""

    batch_seconds: float = Field(0.5, gt=0, le=60)
    """How long a fact may wait for others to be inserted with it: longer means fewer, larger parts
    in ClickHouse and older answers."""

    batch_records_max: int = Field(20_000, ge=1)
    """Facts of one partition that are inserted together at most; 16 MB of them always close a
    batch."""

    exports_path: Path | None = None
    """Folder of the files that export jobs make, the same for all processes of the service; beside
    `REPORTING_CLICKHOUSE_PATH` if it is not given."""

    exports_file_bytes_max: int = Field(4 << 30, ge=1)
    """Size of one export's file at most; a larger job fails and says so."""

    exports_total_bytes_max: int = Field(20 << 30, ge=1)
    """Size of all exports' files at most; a job for which there is no room fails and says so."""

    exports_kept_days: float = Field(7, gt=0)
    """How long an export is kept once it has ended, in days."""

    clicks_days: int = Field(400, ge=1)
    """How long clicks are kept, by the day they happened; applied at every start."""

    impressions_days: int = Field(400, ge=1)
    """Likewise impressions."""

    conversions_days: int = Field(400, ge=1)
    """Likewise conversions, and the feed of their changes. After raising it, rebuild before
    partners poll again: the feed cannot tell that older changes are gone."""
