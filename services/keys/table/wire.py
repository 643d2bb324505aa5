"""The shapes of the table: what may be asked, and rows as staff see them.

A query parameter that a route does not know is refused, since a misspelt filter must not pass for a
list of everything.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from services.keys.domain import INTEGRATION_LENGTH_MAX, ShownStatus
from services.keys.edge import ID_MAX
from services.keys.table.domain import SORT_DEFAULT, Sort
from services.keys.usage.domain import KeyWarning
from services.keys.wire import MOMENT, KeyRow, Model

LIMIT_DEFAULT: Final = 100
LIMIT_MAX: Final = 1_000

_Text = Annotated[str, Field(max_length=INTEGRATION_LENGTH_MAX, pattern=r"^[^\x00]*$")]


# --- questions ------------------------------------------------------------------------------------


class Wanted(Model):
    """Which keys of a list, and in which order."""

    status: ShownStatus | None = Field(None, description="Only keys of this status.")
    integration: _Text | None = Field(
        None, description="Only keys for this integration, however it is capitalised."
    )
    warning: KeyWarning | None = Field(None, description="Only keys with this warning.")
    search: _Text | None = Field(
        None,
        description="Part of the integration's, the partner's or the issuer's name in any case, a "
        "whole key id, or the last four of a key.",
    )
    sort: Sort = Field(
        SORT_DEFAULT,
        description="Descending with a minus. Keys that never expire come last by `expires_at`, "
        "and those never used first by `last_used_at`; `partner` is by the partner's id.",
    )


class PartnerPage(Wanted):
    """A page of a partner's keys."""

    limit: int = Field(LIMIT_DEFAULT, ge=1, le=LIMIT_MAX, description="Rows a page.")
    cursor: str | None = Field(
        None,
        description="`paging.next_cursor` of the page before, with the same sort and filters.",
    )


class NetworkPage(PartnerPage):
    """A page of a network's keys."""

    partner: int | None = Field(None, ge=1, le=ID_MAX, description="Only keys of this partner.")


class Export(Wanted):
    """A file of a network's keys."""

    partner: int | None = Field(None, ge=1, le=ID_MAX, description="Only keys of this partner.")
    format: Literal["csv", "json"] = Field("csv", description="CSV for people, JSON for programs.")


# --- answers --------------------------------------------------------------------------------------


class TableRow(KeyRow):
    """A key with its partner, and how it is used; the secret is not in it."""

    partner_name: str = Field(
        description="Empty if the network has not told of the partner.", examples=["Cedar Coupons"]
    )
    suspended: bool = Field(description="Whether the partner's keys are out of work altogether.")
    last_used_at: str | None = Field(
        description="To the minute; null if it was never used.", examples=[MOMENT]
    )
    last_used_ip: str | None = Field(examples=["192.0.2.7"])
    last_used_endpoint: str | None = Field(examples=["GET /v1/affiliates/offersrunnable"])
    used_today: int = Field(
        description="Requests and opened streams of this UTC day.", examples=[1204]
    )
    warnings: list[KeyWarning] = Field(
        description="`unused_90_days`; `many_networks`: used from more than ten networks within a "
        "day; `expiring_soon`: within 14 days, without a successor; `predecessor_in_use`: the old "
        "key of a running rotation was used within a day.",
        examples=[["expiring_soon"]],
    )


class Paging(Model):
    """Where the list goes on."""

    limit: int = Field(examples=[100])
    next_cursor: str | None = Field(
        description="`cursor` of the next page; null at the end.", examples=[None]
    )


class KeysPage(Model):
    """Keys in the order that was asked for."""

    apikeys: list[TableRow]
    paging: Paging


class ExportedKeys(Model):
    """All keys that were asked for."""

    apikeys: list[TableRow]


class UsedFrom(Model):
    """A network that a key is used from."""

    source: str = Field(description="IPv4 by /24, IPv6 by /48.", examples=["192.0.2.0/24"])
    last_used_at: str = Field(description="To the minute.", examples=[MOMENT])
    last_used_ip: str = Field(examples=["192.0.2.7"])
    last_used_endpoint: str = Field(examples=["GET /v1/affiliates/offersrunnable"])
    count: int = Field(
        description="Requests and opened streams on the UTC day of the last.", examples=[1204]
    )


class Use(Model):
    """Who uses a key, and who tries in vain."""

    sources: list[UsedFrom] = Field(
        description="Networks of the last 90 days before its last use, the last one first; at most "
        "100."
    )
    refused_at: str | None = Field(
        description="When the key was last presented and refused, to the minute.", examples=[None]
    )
    refused_ip: str | None = Field(examples=[None])
    refused_reason: str | None = Field(description="The door's word for it.", examples=[None])


class OneKey(TableRow):
    """A key, and who uses it."""

    usage: Use
