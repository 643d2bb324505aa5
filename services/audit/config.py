"""Settings of the audit service and of its anomaly worker."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from shared.config import IdentitySettings, ServiceSettings, TokenSettings


class AuditSettings(IdentitySettings, TokenSettings, ServiceSettings):
    """The API with the trail's projection (prefix `AUDIT_`)."""

    model_config = SettingsConfigDict(
        env_prefix="AUDIT_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8084, ge=0, le=65_535)
    """Port the service listens on; 0 lets the system choose."""

    db_schema: str = "audit"
    """Postgres schema that holds the trail."""

    checkpoint_dir: Path
    """Folder for signed checkpoints: on another disk than Postgres, better on another machine."""

    signing_key_file: Path
    """PEM file of the Ed25519 key that signs checkpoints."""

    checkpoint_seconds: float = Field(10.0, gt=0)
    """An entry waits no longer than this for a checkpoint,"""

    checkpoint_entries: int = Field(1_000, ge=1)
    """nor until more than this many entries wait with it."""

    heartbeat_seconds: float = Field(15.0, gt=0)
    """A live feed without news says so this often, so that a dead connection is noticed."""

    stream_seconds_max: float = Field(900.0, gt=0)
    """A live feed ends after this; its reader returns with a fresh token and its last id."""

    streams_max: int = Field(200, ge=1)
    """Live feeds a process serves at once; each costs a page of entries in memory."""


class AnomalySettings(ServiceSettings):
    """The anomaly worker (prefix `ANOMALIES_`)."""

    model_config = SettingsConfigDict(
        env_prefix="ANOMALIES_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8094, ge=0, le=65_535)
    """Port the worker listens on; 0 lets the system choose."""

    app_id: str = "audit.anomalies.worker"
    """Names the worker's consumer group; a group of another name judges from the beginning."""

    rate_limit_hits: int = Field(10, ge=1)
    """Refusals (429) of one partner within a window that open an incident."""

    window_seconds: int = Field(60, ge=1)
    """Length of a window, and of the quiet that closes an incident."""

    grace_seconds: float = Field(5.0, ge=0)
    """How long the gateway's summaries may take to arrive before quiet is believed."""
