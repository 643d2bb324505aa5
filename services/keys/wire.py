"""The shapes of requests and answers; they document the API, and check what comes in.

Moments are RFC 3339 text in UTC. A member that a request does not know is refused, since a word
misspelt in an allowlist call must not pass for an empty list.
"""

from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from services.keys import allowlist, domain

REASON_LENGTH_MAX: Final = 600
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


class Model(BaseModel):
    """Closed: these members and no other."""

    model_config = ConfigDict(extra="forbid")


# --- requests -------------------------------------------------------------------------------------


class Issue(Model):
    """The key that is wanted."""

    integration: str = Field(
        description="What the key is for; a partner has one active key for each.",
        examples=["reporting"],
    )
    allowlist: Addresses = []
    expires_at: AwareDatetime | None = Field(
        None, description="From when on it does not work any more; null for never."
    )
    reason: Reason = ""
    override_reason: Reason = Field(
        "", description="Why a Super User issues it although the partner may have none."
    )


class Because(Model):
    """A call that needs nothing but its reason."""

    reason: Reason = Field("", examples=["found in a public repository"])


class SetAllowlist(Because):
    """The addresses that replace the present ones."""

    allowlist: Addresses


# --- answers --------------------------------------------------------------------------------------


class KeyRow(Model):
    """A key as staff see it in a table; the secret is not in it."""

    key_id: str = Field(examples=[KEY_ID])
    network_affiliate_id: int = Field(examples=[7])
    integration: str = Field(examples=["reporting"])
    masked: str = Field(examples=["aff_…x7Qp"])
    status: domain.ShownStatus
    allowlist: list[str] = Field(examples=[["192.0.2.7"]])
    created_at: str = Field(examples=[MOMENT])
    created_by: str = Field(examples=["user-7"])
    expires_at: str | None = Field(examples=[None])
    ended_at: str | None = Field(
        description="When it was revoked, or noted as expired.", examples=[None]
    )


class ChangedKey(KeyRow):
    """A key after a change."""

    propagated: bool = Field(description="Whether the doors' topic has it; if not, it will.")


class ShownKey(ChangedKey):
    """A key with its secret."""

    key: str = Field(
        description="The secret.", examples=["aff_0123456789ABCDEFGHIJKLMNOPQ0x1y2z"], repr=False
    )


class Refusal(Model):
    """An error; the three texts are the same."""

    Error: str
    error: str
    message: str


class Ineligible(Refusal):
    """Why the partner may not have a key, or that the integration has one."""

    reasons: list[domain.Obstacle] | None = Field(
        None, description="All of them, if the partner may have none."
    )
