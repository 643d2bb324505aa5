"""`portico keys`: what a network's staff do with partners' keys, through the REST door."""

from typing import Annotated, Any

import typer

from tools.cli import door
from tools.cli.config import settings
from tools.cli.output import print_json, print_table

app = typer.Typer(help="Keys, allowlists, streams and budgets of a network.", no_args_is_help=True)

Network = Annotated[int, typer.Option(help="Whose staff acts.", min=1)]
Partner = Annotated[int, typer.Argument(help="The partner's id.", min=1)]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as it came.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit trail.")]

COLUMNS = (
    ("key_id", "key id"),
    ("network_affiliate_id", "partner"),
    ("integration", "integration"),
    ("masked", "key"),
    ("status", "status"),
    ("allowlist", "addresses"),
    ("created_at", "created"),
    ("expires_at", "expires"),
)


@app.command()
def issue(
    partner: Partner,
    network: Network,
    integration: Annotated[str, typer.Option(help="What the key is for; one key each.")],
    *,
    allow: Annotated[
        list[str] | None, typer.Option(help="Address or CIDR it may be used from; repeatable.")
    ] = None,
    expires: Annotated[str, typer.Option(help="When it ends, such as 2027-01-31T00:00:00Z.")] = "",
    reason: Reason = "",
    override: Annotated[
        str, typer.Option(help="Issue it although refused: the written reason (Super User).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Issue a key; its secret is printed this once."""
    wanted: dict[str, Any] = {"integration": integration, "allowlist": allow or []}
    given = {"expires_at": expires, "reason": reason, "override_reason": override}
    wanted |= {name: value for name, value in given.items() if value}
    _show(_post(network, f"/v1/networks/affiliates/{partner}/apikeys", wanted), as_json=as_json)


@app.command("list")
def list_keys(
    network: Network,
    partner: Annotated[int | None, typer.Option(help="Only of this partner.", min=1)] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List keys, of one partner or of the whole network."""
    path = f"/v1/networks/affiliates/{partner}/apikeys" if partner else "/v1/networks/apikeys"
    answer = door.as_staff(settings(), network).call("GET", path)
    if as_json:
        print_json(answer)
    else:
        print_table(answer["apikeys"], COLUMNS)


@app.command()
def reveal(key_id: KeyId, network: Network, reason: Reason = "") -> None:
    """Print a key's secret; the audit trail names who asked."""
    print(_post(network, f"/v1/networks/apikeys/{key_id}/reveal", {"reason": reason})["key"])


@app.command()
def revoke(
    key_id: KeyId, network: Network, reason: Reason = "", *, as_json: AsJson = False
) -> None:
    """End a key for good."""
    answer = _post(network, f"/v1/networks/apikeys/{key_id}/revoke", {"reason": reason})
    _show(answer, as_json=as_json)


@app.command()
def allow(
    key_id: KeyId,
    network: Network,
    addresses: Annotated[
        list[str] | None, typer.Argument(help="Addresses and CIDRs; none: any.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Set the addresses a key may be used from; replaces the earlier ones."""
    path = f"/v1/networks/apikeys/{key_id}/allowlist"
    _show(_put(network, path, {"allowlist": addresses or []}), as_json=as_json)


@app.command()
def firehose(
    partner: Partner,
    network: Network,
    *,
    enabled: Annotated[bool, typer.Option("--on/--off", help="Whether streams are allowed.")],
    as_json: AsJson = False,
) -> None:
    """Let a partner open streams, or end them."""
    path = f"/v1/networks/affiliates/{partner}/firehose"
    _show(_put(network, path, {"enabled": enabled}), as_json=as_json)


@app.command()
def budget(
    network: Network,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    granular: Annotated[int | None, typer.Option(help="Granular reports an hour.")] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--enforce", help="Only report, or refuse.")
    ] = None,
) -> None:
    """Show the network's budgets; with an option, set that first (Super User)."""
    staff = door.as_staff(settings(), network)
    found = staff.call("GET", "/v1/networks/budgets")
    if any(option is not None for option in (rate, burst, granular, shadow)):
        affiliate = found["affiliate"]
        wanted = {
            "affiliate": {
                "rate": affiliate["rate"] if rate is None else rate,
                "burst": affiliate["burst"] if burst is None else burst,
            },
            "granular_per_hour": found["granular_per_hour"] if granular is None else granular,
            "shadow": found["shadow"] if shadow is None else shadow,
        }
        found = staff.call("PUT", "/v1/networks/budgets", body=wanted)
    print_json(found)


def _post(network: int, path: str, body: dict[str, Any]) -> Any:
    return door.as_staff(settings(), network).call("POST", path, body=body)


def _put(network: int, path: str, body: dict[str, Any]) -> Any:
    return door.as_staff(settings(), network).call("PUT", path, body=body)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    for name, value in answer.items():
        print(f"{name}: {value}")
    if answer.get("propagated") is False:
        print("The change stands; Kafka has not confirmed it yet.")
