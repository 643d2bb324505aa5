"""A key handed over once more: by a link that shows it once, or revealed to whoever asks."""

import sys
from typing import Annotated
from urllib.parse import quote

import typer

from shared.errors import InvalidError
from tools.cli import keys_view, moments
from tools.cli.keys_life import show_secret
from tools.cli.keys_words import AsJson, KeyId, Network, Reason, given, of_key, staff
from tools.cli.moments import readable
from tools.cli.output import print_json, print_table, remarks

LinkId = Annotated[str, typer.Argument(help="The link's id, as `keys links` shows it.")]


def reshare(
    key_id: KeyId,
    network: Network,
    *,
    reveal: Annotated[
        bool, typer.Option("--reveal/--link", help="Print the secret, or make a link (the usual).")
    ] = False,
    lifetime: Annotated[str, typer.Option("--for", help="How long the link works.")] = "24h",
    passphrase: Annotated[
        bool,
        typer.Option(
            "--passphrase", help="Ask for words that the partner must know; from a pipe, one line."
        ),
    ] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a link that shows the key once, or print its secret; the audit trail names who did."""
    if reveal:
        answer = staff(network).call("POST", f"{of_key(key_id)}/reveal", body={"reason": reason})
        show_secret(answer, as_json=as_json)
        return
    wanted = {"expires_in_seconds": moments.seconds_of(lifetime)} | given(
        passphrase=_passphrase() if passphrase else "", reason=reason
    )
    answer = staff(network).call("POST", f"{of_key(key_id)}/shares", body=wanted)
    if as_json:
        print_json(answer)
        return
    told = "once, with the passphrase" if passphrase else "once"
    remarks.print(
        f"{answer['share_id']}: shows the key {told}, until {readable(answer['expires_at'])} UTC"
    )
    print(answer["url"])


def links(key_id: KeyId, network: Network, *, as_json: AsJson = False) -> None:
    """List the links of a key: open, used (when, and from where), expired, withdrawn, locked."""
    answer = staff(network).call("GET", f"{of_key(key_id)}/shares")
    if as_json:
        print_json(answer)
    else:
        print_table(map(keys_view.link_line, answer["shares"]), keys_view.LINK_COLUMNS)


def withdraw(
    key_id: KeyId,
    link_id: LinkId,
    network: Network,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Withdraw a link that nobody has opened."""
    path = f"{of_key(key_id)}/shares/{quote(link_id, safe='')}"
    answer = staff(network).call("DELETE", path, params=given(reason=reason))
    if as_json:
        print_json(answer)
    else:
        print_table([keys_view.link_line(answer)], keys_view.LINK_COLUMNS)


def _passphrase() -> str:
    """Asked for twice where somebody types, else the first line of standard input.

    Raises:
        InvalidError: there is none.
    """
    if sys.stdin.isatty():
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))
    found = sys.stdin.readline().rstrip("\r\n")
    if not found:
        raise InvalidError("--passphrase: standard input holds none.")
    return found
