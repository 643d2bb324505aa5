"""What holds for all keys of a partner, and for all partners of a network."""

from typing import Annotated, Any

import typer

from tools.cli import keys_view
from tools.cli.keys_life import remark_delay
from tools.cli.keys_words import AsJson, Network, Partner, Reason, of_partner, staff
from tools.cli.output import console, print_facts, print_json


def suspend(
    partner: Partner, network: Network, *, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Refuse all keys of a partner until `keys resume`."""
    _hold(partner, network, {"suspended": True, "reason": reason}, as_json=as_json)


def resume(
    partner: Partner, network: Network, *, reason: Reason = "", as_json: AsJson = False
) -> None:
    """Lift the suspension; keys stay refused while the partner's account is not active."""
    _hold(partner, network, {"suspended": False, "reason": reason}, as_json=as_json)


def firehose(
    partner: Partner,
    network: Network,
    *,
    enabled: Annotated[bool, typer.Option("--on/--off", help="Whether streams are allowed.")],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let a partner open streams, or end them."""
    wanted = {"enabled": enabled, "reason": reason}
    answer = staff(network).call("PUT", f"{of_partner(partner)}/firehose", body=wanted)
    _show(answer, as_json=as_json)


def budget(
    network: Network,
    rate: Annotated[float | None, typer.Option(help="Requests a second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once.")] = None,
    granular: Annotated[int | None, typer.Option(help="Granular reports an hour.")] = None,
    shadow: Annotated[
        bool | None, typer.Option("--shadow/--enforce", help="Only report, or refuse.")
    ] = None,
    *,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Show the network's budgets; with an option, set that first (Super User)."""
    caller = staff(network)
    found = caller.call("GET", "/v1/networks/budgets")
    if any(option is not None for option in (rate, burst, granular, shadow)):
        affiliate = found["affiliate"]
        wanted = {
            "affiliate": {
                "rate": affiliate["rate"] if rate is None else rate,
                "burst": affiliate["burst"] if burst is None else burst,
            },
            "granular_per_hour": found["granular_per_hour"] if granular is None else granular,
            "shadow": found["shadow"] if shadow is None else shadow,
            "reason": reason,
        }
        found = caller.call("PUT", "/v1/networks/budgets", body=wanted)
    if as_json:
        print_json(found)
        return
    print_facts(keys_view.budget_facts(found), console)
    remark_delay(found)


def _hold(partner: int, network: int, wanted: dict[str, Any], *, as_json: bool) -> None:
    answer = staff(network).call("PUT", f"{of_partner(partner)}/suspension", body=wanted)
    _show(answer, as_json=as_json)


def _show(answer: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    print_facts(keys_view.partner_facts(answer), console)
    remark_delay(answer)
