"""`python -m tests.benchmarks [PREFIX]`: measure, print a table, remember in `build/bench.json`.

Each `bench_*.py` beside this file names its figures in `NAMES` and measures them in
`async def run(context: Context) -> list[Figure]`. With a prefix only those modules run that have a
figure beginning with it. Figures of earlier runs stay in the file until measured again.
"""

import importlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import uvloop
from rich.console import Console
from rich.table import Table

from tests.benchmarks.context import open_context
from tests.benchmarks.figures import Figure

HERE = Path(__file__).parent
RESULTS = HERE.parent.parent / "build" / "bench.json"


def modules(prefix: str) -> Iterator[ModuleType]:
    """The benchmarks that have a figure whose name begins with `prefix`."""
    for file in sorted(HERE.glob("bench_*.py")):
        module = importlib.import_module(f"tests.benchmarks.{file.stem}")
        if any(name.startswith(prefix) for name in module.NAMES):
            yield module


def remember(figures: Iterable[Figure], results: Path = RESULTS) -> None:
    """Put the figures into the file, in the place of earlier ones of the same name."""
    known = json.loads(results.read_text()) if results.exists() else []
    by_name = {item["name"]: item for item in known} | {each.name: asdict(each) for each in figures}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps([by_name[name] for name in sorted(by_name)], indent=2) + "\n")


def table(figures: Iterable[Figure]) -> Table:
    """The figures for people."""
    found = Table("figure", "value", "unit", "baseline", "ratio", "rounds", "spread")
    for each in figures:
        baseline = "" if each.baseline is None else f"{each.baseline:,.1f}"
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        rest = (f"{each.rounds}", f"{each.spread:.0%}")
        found.add_row(each.name, f"{each.value:,.1f}", each.unit, baseline, ratio, *rest)
    return found


def main(prefix: str) -> int:
    """Run the benchmarks; 2 if none has that prefix."""
    chosen = list(modules(prefix))
    if not chosen:
        print(f"No figure begins with {prefix!r}.")
        return 2
    console, figures = Console(width=None if sys.stdout.isatty() else 120), []
    with open_context(prefix) as context:
        for module in chosen:
            console.print(f"measuring {', '.join(module.NAMES)} …")
            measured = uvloop.run(module.run(context))
            remember(measured)
            figures += [each for each in measured if each.name.startswith(prefix)]
    console.print(table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else ""))
