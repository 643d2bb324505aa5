"""The gateway's settings, prefix `GATEWAY_`."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from shared.access import parse_proxies
from shared.config import IdentitySettings, ServiceSettings


class GatewaySettings(ServiceSettings, IdentitySettings):
    """What the gateway reads from its environment."""

    model_config = SettingsConfigDict(
        env_prefix="GATEWAY_", frozen=True, extra="ignore", populate_by_name=True
    )

    port: int = Field(8080, ge=0, le=65_535)
    """Port of the public REST door."""

    upstream_keys: str = "http://127.0.0.1:8081"
    """Base URL of the key service."""

    upstream_reporting: str = "http://127.0.0.1:8082"
    """Base URL of the reporting service."""

    upstream_audit: str = "http://127.0.0.1:8084"
    """Base URL of the audit service."""

    trusted_proxies: str = ""
    """Addresses and CIDRs of our own proxies, comma-separated: only they are believed about
    `X-Forwarded-For`. Empty believes nobody."""

    stale_seconds: float = Field(30.0, gt=0)
    """How old the replicas may be before everybody is refused: a revoked key may work that long on
    a gateway cut off from Kafka."""

    body_bytes_max: int = Field(1024 * 1024, ge=0)
    """Longest request body; the largest of the API, a bulk of postbacks, stays well below."""

    header_bytes_max: int = Field(16 * 1024, ge=256)
    """Longest sum of a request's header names and values; beyond, or with over 100: 431."""

    target_bytes_max: int = Field(8 * 1024, ge=64)
    """Longest path with its query; beyond: 414."""

    header_seconds: float = Field(10.0, gt=0)
    """How long the head of a request may take from its first byte on; beyond: 408."""

    keep_alive_seconds: float = Field(75.0, gt=0)
    """How long a client's connection may stay open without a request."""

    body_bytes_per_second_min: int = Field(1024, ge=1)
    """A body may come slower than that for `silence_seconds` altogether; beyond: 408."""

    connections_max: int = Field(4096, ge=1)
    """Clients connected at once, below the limit on open files; beyond: 503."""

    connections_per_address_max: int = Field(1024, ge=1)
    """Of them from one address (IPv6: one /64), so that one client cannot keep out the others;
    beyond: 429. Addresses of `trusted_proxies` may have any number."""

    reuse_port: bool = False
    """Whether further gateways on this machine may share the port (`SO_REUSEPORT`), one a core;
    each is a gateway of its own, and Kafka is all they share."""

    tls_cert_file: Path | None = None
    """PEM file with the certificate chain; HTTPS if set, else plain HTTP."""

    tls_key_file: Path | None = None
    """PEM file with the certificate's key; none if it stands in the same file."""

    connect_seconds: float = Field(2.0, gt=0)
    """How long connecting to an upstream may take."""

    silence_seconds: float = Field(60.0, gt=0)
    """How long an upstream, or a client in the middle of its body, may say nothing; above the 15 s
    of a stream's heartbeat."""

    upstream_connections_max: int = Field(256, ge=1)
    """Connections to one upstream; requests beyond wait, at most `connect_seconds`."""

    token_rate: float = Field(20.0, gt=0)
    """Requests a second from one address on routes that take a token."""

    token_burst: int = Field(60, ge=1)
    """How many of them may come at once."""

    guess_rate: float = Field(1.0, gt=0)
    """Keys a second from one address that may fail; beyond, they are answered 429. Good keys from
    the same address pass all the same."""

    guess_burst: int = Field(50, ge=1)
    """How many of them may come at once: a partner's programs that all still hold a revoked key."""

    summary_rows_max: int = Field(50_000, ge=1)
    """Different combinations of key, endpoint, status and address held until they are published;
    beyond, requests are counted as dropped from the summaries."""

    access_log: str = ""
    """File to which each request adds a line of JSON; `-` for standard output, empty for none. It
    may be moved away at any time."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        parse_proxies(value)
        return value
