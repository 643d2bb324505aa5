"""`portico token`: a token of the local issuer, for trying things out."""

from typing import Annotated

import typer

from shared.tokens import AUDIT_READ, Caller
from tools.cli import issuer
from tools.cli.config import settings


def token(
    network: Annotated[int, typer.Option(help="The network they work for; 0: none.", min=0)],
    permission: Annotated[
        list[str] | None,
        typer.Option(help="Such as security:full or accounts_history:read; repeat for several."),
    ] = None,
    *,
    partner: Annotated[int, typer.Option(help="The partner they belong to; 0: staff.", min=0)] = 0,
    super_user: Annotated[bool, typer.Option("--super-user", help="May override and set.")] = False,
    audit: Annotated[bool, typer.Option("--audit", help="May read the audit trail.")] = False,
    subject: Annotated[str, typer.Option(help="Who they are.")] = issuer.OPERATOR,
    minutes: Annotated[int, typer.Option(help="How long it is good for.", min=1)] = 60,
) -> None:
    """Print a token signed by the local issuer."""
    permissions = set(permission or ()) | ({AUDIT_READ} if audit else set())
    caller = Caller(
        subject=subject,
        name=subject,
        network_id=network,
        network_affiliate_id=partner,
        permissions=frozenset(permissions),
        is_super_user=super_user,
    )
    print(issuer.sign(settings().home, caller, minutes * 60))
