"""`portico`, the operators' command: every failure is one clear line and an exit status.

0: done. 1: refused, or something found wrong. 2: not set up, or a part does not answer.
"""

import sys

import typer

from shared.errors import PorticoError, SetupError, UnavailableError
from tools.cli import audit, feed, firehose, keys, reporting, run, token, topics

app = typer.Typer(
    help="Operate Portico: partners' API access to an affiliate network's data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(run.run)
app.command()(run.reset)
app.command()(token.token)
app.command()(feed.feed)
app.add_typer(keys.app, name="keys")
app.add_typer(firehose.app, name="firehose")
app.add_typer(audit.app, name="audit")
app.add_typer(reporting.app, name="reporting")
app.add_typer(topics.app, name="topics")

EXIT_REFUSED = 1
EXIT_SETUP = 2


def main() -> None:
    """The entry point of the console script."""
    try:
        app()
    except (SetupError, UnavailableError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETUP)
    except PorticoError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_REFUSED)
