"""The shapes of the partner's own view. Who of the network's staff did what is not in it."""

from pydantic import Field

from services.keys import domain
from services.keys.wire import KEY_ID, MOMENT, Model


class OwnKey(Model):
    """A key of the partner who asks."""

    key_id: str = Field(examples=[KEY_ID])
    integration: str = Field(examples=["reporting"])
    masked: str = Field(examples=["aff_…yy18"])
    key: str | None = Field(
        description="The secret; null if the key does not work, or secrets were left out.",
        examples=["aff_0123456789ABCDEFGHIJKLMNOPQ2Fyy18"],
        repr=False,
    )
    status: domain.ShownStatus
    allowlist: list[str] = Field(
        description="Where it may be used from; empty means anywhere.", examples=[["192.0.2.7"]]
    )
    created_at: str = Field(examples=[MOMENT])
    not_before: str | None = Field(description="From when on it works.", examples=[None])
    expires_at: str | None = Field(examples=[None])
    ended_at: str | None = Field(examples=[None])
    successor_key_id: str | None = Field(
        description="The key that replaces it: change over to that one before `expires_at`.",
        examples=[None],
    )


class OwnKeys(Model):
    """The partner's keys: those that work first, then the newest; at most 100."""

    apikeys: list[OwnKey]
    suspended: bool = Field(description="Whether none of them works for now.")
