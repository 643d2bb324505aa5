"""`python -m tools.demo`: play the story, write `build/demo.json`; status 1 if a step failed."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

from rich.text import Text

import tools.demo
from deploy.local.stack import StoppedError
from shared.clock import SystemClock
from shared.errors import PorticoError
from tools.cli.output import remarks
from tools.demo import access, life, reports, streams, trail
from tools.demo.record import Record, Step
from tools.demo.stage import Stage, staged

Act = Callable[[Stage], Awaitable[str]]
ACTS: Final[tuple[Act, ...]] = (
    access.staff_without_permission,
    access.issue_key,
    reports.report_equals_ledger,
    reports.conversions_equal_ledger,
    access.other_partner_out_of_reach,
    access.allowlist_refuses,
    access.budget_shared,
    streams.firehose_resumes,
    life.partner_sees_own_keys,
    life.link_works_once,
    life.rotation_overlaps,
    trail.reshare_recorded,
    streams.revocation,
    trail.audit_trail_verifies,
    trail.tampering_found,
    trail.anomaly_raised,
)
"""The story; each act's name is its step's name."""


async def play(record: Record, home: Path) -> None:
    """Play every act on a platform of its own, failed ones included in the record."""
    try:
        async with staged(home, record.clock, record, _say) as stage:
            _say(f"the platform is ready after {stage.stack.ready_seconds:.1f} s")
            for act in ACTS:
                _show(await record.play(act.__name__, partial(act, stage)))
            record.figures.rss_mb = round(sum(stage.stack.rss_mb().values()), 1)
    except StoppedError:
        record.fail("platform", "stopped before the story began")
    except PorticoError as error:
        record.fail("platform", str(error))


def _say(text: str) -> None:
    remarks.print(Text(f"  {text}", style="dim"))


def _show(step: Step) -> None:
    mark, style = ("ok", "green") if step.ok else ("FAILED", "bold red")
    line = Text.assemble((f"{mark:>6} ", style), f"{step.name} ({step.seconds:.1f} s): ")
    remarks.print(line + Text(step.detail))


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=tools.demo.__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build"), help="for result and data")
    folder: Path = parser.parse_args().folder
    record = Record(SystemClock())
    asyncio.run(play(record, folder / "demo-home"))
    result = folder / "demo.json"
    record.write(result)
    verdict = "the story went as promised" if record.ok else "a step FAILED"
    remarks.print(Text(f"{verdict}; see {result}", style="bold"))
    return 0 if record.ok else 1


if __name__ == "__main__":
    sys.exit(main())
