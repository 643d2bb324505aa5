"""`portico run`: the whole platform on this machine, with a key and commands to try it with."""

import asyncio
import shlex
import sys
from pathlib import Path

from rich.text import Text

from deploy.local import home as stack_home
from deploy.local.config import StackSettings
from deploy.local.stack import Stack, StoppedError
from shared.clock import SystemClock
from shared.config import load
from tools.cli import guide
from tools.cli.config import DEFAULT_HOME, write_endpoints
from tools.cli.firststeps import partner_key
from tools.cli.output import console, remarks


def run() -> None:
    """Start everything, print what to try, and run until Ctrl-C."""
    try:
        asyncio.run(_run(load(StackSettings)))
    except StoppedError:
        remarks.print("stopped before it was ready")


def reset() -> None:
    """Forget the data of `portico run`; Kafka's jars stay."""
    chosen = load(StackSettings)
    stack_home.forget(chosen.home, keep=chosen.kafka_libs)
    print(f"Forgot the data in {chosen.home}.")


async def _run(settings: StackSettings) -> None:
    async with Stack(settings, say=_say) as stack:
        kafka = {"kafka_bootstrap": stack.env["KAFKA_BOOTSTRAP"]}
        write_endpoints(settings.home, dict(stack.urls) | kafka)
        known = await partner_key(stack)
        _print_readiness(stack)
        portico = _portico(settings.home)
        for chapter in guide.chapters(stack.urls, known, SystemClock().time(), portico):
            console.print(Text(chapter.heading, style="bold"))
            for line in chapter.lines:
                console.print(Text(f"  {line}"))
            console.print()
        console.print(Text("Ctrl-C stops everything; the next run goes on with the same data."))
        raise await stack.failed()


def _say(text: str) -> None:
    remarks.print(Text(f"  {text}", style="dim"))


def _print_readiness(stack: Stack) -> None:
    memory = stack.rss_mb()
    console.print(
        Text(
            f"\nPortico is ready after {stack.ready_seconds:.1f} s: "
            f"{len(memory)} Python processes, {sum(memory.values()):.0f} MB resident.\n",
            style="bold",
        )
    )


def _portico(home: Path) -> str:
    """How to call this command again from here, reaching the same home."""
    called = Path(sys.argv[0])
    if called.is_relative_to(Path.cwd()):
        called = called.relative_to(Path.cwd())
    prefix = "" if home == DEFAULT_HOME else f"PORTICO_HOME={shlex.quote(str(home))} "
    return prefix + shlex.quote(str(called))
