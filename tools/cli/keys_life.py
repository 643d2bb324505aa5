"""The life of a key: issued, rotated, bound to addresses and to an end, revoked.

A new secret is all that stands on standard output, so that `KEY=$(portico keys issue …)` holds it;
what else there is to say goes to standard error. With `--json` the answer stands there whole.
"""

import sys
import uuid
from typing import Annotated, Any

import typer

from shared.errors import InvalidError
from tools.cli import keys_view, moments
from tools.cli.keys_words import (
    AsJson,
    KeyId,
    Network,
    Partner,
    Reason,
    RetryKey,
    Yes,
    given,
    moment,
    of_key,
    of_partner,
    staff,
)
from tools.cli.output import console, print_facts, print_json, remarks

NOT_YET = "The change stands; Kafka has not confirmed it yet, and doors follow once it has."


def issue(
    partner: Partner,
    network: Network,
    integration: Annotated[str, typer.Option(help="What the key is for; one active key each.")],
    *,
    allow: Annotated[
        list[str] | None, typer.Option(help="Address or CIDR it may be used from; repeatable.")
    ] = None,
    expires: Annotated[
        str, typer.Option(help="When it ends, such as 2027-01-31T00:00:00Z or 90d from now.")
    ] = "",
    not_before: Annotated[
        str, typer.Option(help="From when on it works, written like --expires.")
    ] = "",
    reason: Reason = "",
    override: Annotated[
        str, typer.Option(help="Issue it although refused: the written reason (Super User).")
    ] = "",
    retry_key: RetryKey = "",
    as_json: AsJson = False,
) -> None:
    """Issue a key; its secret is printed."""
    wanted = {"integration": integration, "allowlist": allow or []} | given(
        expires_at=moment(expires),
        not_before=moment(not_before),
        reason=reason,
        override_reason=override,
    )
    path = f"{of_partner(partner)}/apikeys"
    show_secret(staff(network).post_once(path, wanted, _named(retry_key)), as_json=as_json)


def rotate(
    key_id: KeyId,
    network: Network,
    overlap: Annotated[
        str, typer.Option(help="How long the old key lives on: 30m, 12h, 7d; 0 ends it at once.")
    ] = "7d",
    *,
    expires: Annotated[
        str, typer.Option(help="When the new one ends; else it lives as long as the old one.")
    ] = "",
    reason: Reason = "",
    retry_key: RetryKey = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Issue the key that follows this one; its secret is printed."""
    seconds = moments.seconds_of(overlap)
    wanted = {"overlap_seconds": seconds} | given(expires_at=moment(expires), reason=reason)
    if not seconds:
        _agree("Replace and revoke at once", key_id, network, yes=yes)
    answer = staff(network).post_once(f"{of_key(key_id)}/rotate", wanted, _named(retry_key))
    show_secret(answer, as_json=as_json)


def revoke(
    key_id: KeyId,
    network: Network,
    *,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """End a key for good."""
    _agree("Revoke", key_id, network, yes=yes)
    answer = staff(network).call("POST", f"{of_key(key_id)}/revoke", body={"reason": reason})
    show_key(answer, as_json=as_json)


def expire(
    key_id: KeyId,
    network: Network,
    at: Annotated[
        str, typer.Option(help="When it ends: 2027-01-31T00:00:00Z, 90d from now, or never.")
    ],
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Set when a key ends."""
    wanted = {"expires_at": None if at == "never" else moment(at), "reason": reason}
    show_key(staff(network).call("PUT", f"{of_key(key_id)}/expiry", body=wanted), as_json=as_json)


def allow(
    key_id: KeyId,
    network: Network,
    addresses: Annotated[
        list[str] | None, typer.Argument(help="Addresses and CIDRs; none: any.")
    ] = None,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Set the addresses a key may be used from; replaces the earlier ones."""
    wanted = {"allowlist": addresses or [], "reason": reason}
    show_key(
        staff(network).call("PUT", f"{of_key(key_id)}/allowlist", body=wanted), as_json=as_json
    )


def show_key(answer: dict[str, Any], *, as_json: bool) -> None:
    """A key after a change."""
    if as_json:
        print_json(answer)
        return
    print_facts(keys_view.key_facts(answer), console)
    remark_delay(answer)


def show_secret(answer: dict[str, Any], *, as_json: bool) -> None:
    """A key with its secret: the secret alone on standard output."""
    if as_json:
        print_json(answer)
        return
    print_facts(keys_view.key_facts(answer), remarks)
    remark_delay(answer)
    print(answer["key"])


def remark_delay(answer: dict[str, Any]) -> None:
    """Say so if Kafka has not confirmed a change."""
    if answer.get("propagated") is False:
        remarks.print(NOT_YET)


def _named(retry_key: str) -> str:
    """The name of a wish; a new one if none was given.

    Raises:
        InvalidError: it cannot stand in a header.
    """
    if not (retry_key.isascii() and retry_key.isprintable()):
        raise InvalidError("--retry-key: use printable ASCII.")
    return retry_key or f"portico-{uuid.uuid4()}"


def _agree(deed: str, key_id: str, network: int, *, yes: bool) -> None:
    """Ask the person at the keyboard, if there is one."""
    if yes or not sys.stdin.isatty():
        return
    row = staff(network).call("GET", of_key(key_id))
    typer.confirm(keys_view.question(row, deed), abort=True, err=True)
