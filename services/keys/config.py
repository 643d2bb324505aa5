"""Settings of the key service."""

import re
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from shared.config import IdentitySettings, ServiceSettings, TokenSettings

_BASE_URL: Final = re.compile(
    r"(https://[^/?#@\s]+|http://(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d+)?)(/[^?#\s]*)?"
)


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

    usage_seconds: float = Field(5.0, gt=0, le=60)
    """How long uses are gathered before a batch of them is written; the fewer writes, the later the
    table tells of a use. A stop does not wait for it."""

    public_url: str = "http://127.0.0.1:8080"
    """Where partners reach the gateway; single-use links begin with it. Plain http is taken for
    this machine only: whoever reads a link on its way can use it."""

    @field_validator("public_url")
    @classmethod
    def _is_base_url(cls, value: str) -> str:
        if not _BASE_URL.fullmatch(value):
            raise ValueError(
                "needs https:// and a host (http:// for this machine only), without query, "
                "fragment or password"
            )
        return value.rstrip("/")
