"""The words that the commands of `portico keys` share: arguments, options, and who calls."""

from typing import Annotated, Any
from urllib.parse import quote

import typer

from shared.clock import SystemClock
from tools.cli import door, moments
from tools.cli.config import settings

Network = Annotated[int, typer.Option(envvar="PORTICO_NETWORK", help="Whose staff acts.", min=1)]
Partner = Annotated[int, typer.Argument(help="The partner's id.", min=1)]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's answer as it came.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit trail.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
RetryKey = Annotated[
    str,
    typer.Option(
        help="Names this wish: repeated within 24 hours it is done once. One is made if none is."
    ),
]

OfPartner = Annotated[int | None, typer.Option("--partner", help="Only of this partner.", min=1)]
OfStatus = Annotated[
    str, typer.Option("--status", help="Only active, scheduled, revoked or expired ones.")
]
OfIntegration = Annotated[str, typer.Option("--integration", help="Only of this integration.")]
WithWarning = Annotated[
    str,
    typer.Option(
        "--warning",
        help="Only with unused_90_days, many_networks, expiring_soon or predecessor_in_use.",
    ),
]
Search = Annotated[
    str,
    typer.Option(
        help="Part of an integration's, a partner's or an issuer's name, a key id, or the last "
        "four characters of a key."
    ),
]
Sort = Annotated[
    str,
    typer.Option(
        help="created_at, last_used_at, expires_at, integration, partner or status; "
        "with - before it from the end."
    ),
]


def staff(network_id: int) -> door.Door:
    """The door for the staff member who runs the command."""
    return door.as_staff(settings(), network_id)


def of_partner(partner: int) -> str:
    """The path of what belongs to a partner."""
    return f"/v1/networks/affiliates/{partner}"


def of_key(key_id: str) -> str:
    """The path of a key."""
    return f"/v1/networks/apikeys/{quote(key_id, safe='')}"


def given(**members: Any) -> dict[str, Any]:
    """The members that say something."""
    return {name: value for name, value in members.items() if value not in ("", None)}


def moment(text: str) -> str:
    """A moment as the API takes it; none for no text."""
    return moments.moment_of(text, SystemClock().time()) if text else ""
