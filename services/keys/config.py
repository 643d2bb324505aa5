"""Settings of the key service."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from shared.config import IdentitySettings, ServiceSettings, TokenSettings


class KeysSettings(IdentitySettings, TokenSettings, ServiceSettings):
    """The key service (prefix `KEYS_`)."""

    model_config = SettingsConfigDict(
        env_prefix="KEYS_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8081, ge=0, le=65_535)
    """Port the service listens on; 0 lets the system choose."""

    db_schema: str = "keys"
    """Postgres schema that holds the keys; it also names the outbox's transactional id."""

    master_key: SecretStr | None = None
    """32 random bytes in base64 that wrap the networks' data keys; or give a file.

    Several, separated by commas, while one replaces another: all of them open, and
    `portico keys rewrap` moves everything to the first.
    """

    master_key_file: Path | None = None
    """File with the same, one a line; exactly one of the two is given.

    It is read again every few seconds, so that a rotation needs no restart.
    """

    confirm_seconds: float = Field(5.0, gt=0)
    """How long a change waits for Kafka's confirmation before it is answered as not propagated."""

    reconcile_seconds: float = Field(60.0, gt=0)
    """Pause between two comparisons of the tables with the topics that the doors read."""

    ended_keep_seconds: float = Field(30 * 86_400.0, gt=0)
    """How long the doors remember an ended key by name before its state leaves their topic."""
