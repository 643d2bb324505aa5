"""The shapes of requests and answers about links. Neither a token nor a secret is in a row."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr

from services.keys.shares import domain
from services.keys.shares.credentials import (
    PASSPHRASE_LENGTH_MAX,
    PASSPHRASE_LENGTH_MIN,
    passphrase_text,
)
from services.keys.wire import KEY_ID, MOMENT, Model, Reason

SHARE_ID: Final = "share_0123456789abcdef0123"
_URL: Final = "https://api.example.com/v1/shares/x3nE0c1Wq5o7c0h6r8Yk2mVb4tJdLgAzSPuXiQeRfTw"


def _long_enough(passphrase: SecretStr) -> SecretStr:
    if len(passphrase_text(passphrase.get_secret_value())) < PASSPHRASE_LENGTH_MIN:
        raise ValueError(f"needs {PASSPHRASE_LENGTH_MIN} characters beside white space")
    return passphrase


Passphrase = Annotated[
    SecretStr,
    AfterValidator(_long_enough),
    Field(
        min_length=PASSPHRASE_LENGTH_MIN,
        max_length=PASSPHRASE_LENGTH_MAX,
        description="What the visitor has to enter; tell it on another way than the link.",
        examples=["correct horse battery"],
    ),
]


class MakeShare(Model):
    """The link that is wanted."""

    expires_in_seconds: int = Field(
        domain.EXPIRES_SECONDS_DEFAULT,
        strict=True,
        ge=domain.EXPIRES_SECONDS_MIN,
        le=domain.EXPIRES_SECONDS_MAX,
        description="How long it may be opened; a minute to seven days.",
    )
    passphrase: Passphrase | None = None
    reason: Reason = ""


class ShareRow(Model):
    """A link as staff see it in a list."""

    share_id: str = Field(examples=[SHARE_ID])
    key_id: str = Field(examples=[KEY_ID])
    state: domain.State = Field(
        description="`ended`: its key is not active any more. `suspended`: its partner is, for now."
    )
    has_passphrase: bool = Field(examples=[True])
    attempts_left: int | None = Field(
        description="Wrong passphrases until it is locked; null without one.", examples=[5]
    )
    created_at: str = Field(examples=[MOMENT])
    created_by: str = Field(examples=["user-7"])
    created_by_name: str = Field(examples=["Ada"])
    expires_at: str = Field(examples=[MOMENT])
    opened_at: str | None = Field(description="When it showed the key.", examples=[None])
    opened_ip: str | None = Field(description="To which address.", examples=[None])
    ended_at: str | None = Field(
        description="When it was used, withdrawn or locked.", examples=[None]
    )


class MadeShare(ShareRow):
    """A new link. Its address is in this answer and never again."""

    url: str = Field(description="Whoever has it sees the key, once.", examples=[_URL], repr=False)


class Shares(Model):
    """The links of a key, newest first."""

    shares: list[ShareRow]
