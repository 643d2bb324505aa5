"""The shapes of requests and answers; they document the API, and check what comes in.

Moments are RFC 3339 text in UTC. A member that a request does not know is refused, since a word
misspelt in an allowlist call must not pass for an empty list.
"""

from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from services.keys import allowlist, domain, rotation
from services.keys.eligibility import Obstacle

ID_MAX: Final = 2**53 - 1
REASON_LENGTH_MAX: Final = 600
INTEGRATION_TEXT_MAX: Final = 10 * domain.INTEGRATION_LENGTH_MAX
"""Before white space is taken out of it."""
MOMENT: Final = "2026-01-31T12:00:00.000Z"
KEY_ID: Final = "key_0123456789abcdef0123"

Reason = Annotated[
    str, Field(max_length=REASON_LENGTH_MAX, description="Why; kept in the audit trail.")
]
Addresses = Annotated[
    list[Annotated[str, Field(max_length=100)]],
    Field(
        description="IPv4 and IPv6 addresses and CIDRs, at most 50; empty means any.",
        max_length=10 * allowlist.ENTRIES_MAX,
        examples=[["192.0.2.7", "2001:db8::/32"]],
    ),
]


def _moment_text(value: object) -> object:
    """`value`, unless it is a number, which might be of seconds or of milliseconds."""
    if value is not None and not (isinstance(value, str) and ":" in value):
        raise ValueError("a moment is RFC 3339 text with a time and an offset")
    return value


Moment = Annotated[AwareDatetime | None, BeforeValidator(_moment_text)]
Expiry = Annotated[
    Moment,
    Field(
        description="From when on it does not work any more, before the year 9999; null for never.",
        examples=["2030-01-31T12:00:00Z"],
    ),
]


class Model(BaseModel):
    """Closed: these members and no other."""

    model_config = ConfigDict(extra="forbid")


# --- requests -------------------------------------------------------------------------------------


class Issue(Model):
    """The key that is wanted."""

    integration: str = Field(
        max_length=INTEGRATION_TEXT_MAX,
        description="What the key is for; a partner has one active key for each.",
        examples=["reporting"],
    )
    allowlist: Addresses = []
    expires_at: Expiry = None
    not_before: Moment = Field(
        None,
        description="From when on it works; null, or a moment that has passed, means at once.",
        examples=["2026-01-31T12:00:00Z"],
    )
    reason: Reason = ""
    override_reason: Reason = Field(
        "", description="Why a Super User issues it although the partner may have none."
    )


class IssueByResource(Issue):
    """The same, as one call for all kinds of resources has it."""

    resource_id: int = Field(strict=True, ge=1, le=ID_MAX, description="The partner.", examples=[7])
    resource_type: Literal["affiliate"]
    integration: str = Field(
        "API",
        max_length=INTEGRATION_TEXT_MAX,
        description="What the key is for; a partner has one active key for each.",
        examples=["reporting"],
    )


class Because(Model):
    """A call that needs nothing but its reason."""

    reason: Reason = Field("", examples=["found in a public repository"])


class Rotate(Because):
    """How a key gives way to its successor."""

    overlap_seconds: int = Field(
        rotation.OVERLAP_SECONDS_DEFAULT,
        strict=True,
        ge=0,
        le=rotation.OVERLAP_SECONDS_MAX,
        description="How long the old key lives on, at most 30 days; 0 revokes it at once.",
    )
    expires_at: Expiry = Field(
        None,
        description="From when on the new key does not work any more; null for never. Left out, it "
        "lives as long as the old one was meant to, from now on.",
    )


class SetExpiry(Because):
    """The end that replaces the present one."""

    expires_at: Expiry


class SetAllowlist(Because):
    """The addresses that replace the present ones."""

    allowlist: Addresses


# --- answers --------------------------------------------------------------------------------------


class KeyRow(Model):
    """A key as staff see it in a table; the secret is not in it."""

    key_id: str = Field(examples=[KEY_ID])
    network_affiliate_id: int = Field(examples=[7])
    integration: str = Field(examples=["reporting"])
    masked: str = Field(examples=["aff_…yy18"])
    status: domain.ShownStatus
    allowlist: list[str] = Field(examples=[["192.0.2.7"]])
    created_at: str = Field(examples=[MOMENT])
    created_by: str = Field(
        description="Who issued it, as their token names them.", examples=["user-7"]
    )
    created_by_name: str = Field(description="Their name at that time.", examples=["Ada"])
    not_before: str | None = Field(
        description="From when on it works; null for from the start.", examples=[None]
    )
    expires_at: str | None = Field(examples=[None])
    ended_at: str | None = Field(
        description="When it was revoked, or noted as expired.", examples=[None]
    )
    predecessor_key_id: str | None = Field(
        description="The key that gave way to it in a rotation.", examples=[None]
    )
    successor_key_id: str | None = Field(
        description="The key that it gave way to in a rotation.", examples=[None]
    )
    overlap_ends_at: str | None = Field(
        description="When it ends beside its successor; null if it was not rotated.",
        examples=[None],
    )


class ChangedKey(KeyRow):
    """A key after a change."""

    propagated: bool = Field(description="Whether the doors' topic has it; if not, it will.")


class ShownKey(ChangedKey):
    """A key with its secret."""

    key: str = Field(
        description="The secret.", examples=["aff_0123456789ABCDEFGHIJKLMNOPQ2Fyy18"], repr=False
    )


class RotatedKey(ShownKey):
    """A key that follows another, with its secret."""

    predecessor: KeyRow = Field(description="The key that gave way to it.")


class Refusal(Model):
    """An error; the three texts are the same."""

    Error: str
    error: str
    message: str


class Ineligible(Refusal):
    """Why the partner may not have a key, or that the integration has one."""

    reasons: list[Obstacle] | None = Field(
        None, description="All of them, if the partner may have none."
    )
