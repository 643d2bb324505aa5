"""`portico topics`: the table of topics, and making a cluster match it."""

import asyncio
from typing import Annotated

import typer

from shared import topics as table
from tools.cli.config import settings
from tools.cli.output import print_table

app = typer.Typer(help="Kafka's topics.", no_args_is_help=True)


@app.command()
def apply(
    replication: Annotated[int, typer.Option(help="Copies of each partition.", min=1)] = 1,
    partitions: Annotated[
        int, typer.Option(help="Partitions of the topics keyed by partner.", min=1)
    ] = table.PARTNER_PARTITIONS,
) -> None:
    """Create what is missing and correct settings; repeating it changes nothing."""
    report = asyncio.run(
        table.apply(
            settings().kafka_bootstrap, replication=replication, partner_partitions=partitions
        )
    )
    for verb, names in (("created", report.created), ("changed", report.changed)):
        for name in names:
            print(f"{verb} {name}")
    print(
        f"{len(report.created)} created, {len(report.changed)} changed, "
        f"{len(report.unchanged)} as they were"
    )


@app.command("list")
def list_topics() -> None:
    """Show the table of topics; asks no cluster."""
    rows = [
        {
            "name": topic.name,
            "key": topic.key,
            "partitions": topic.partitions or f"{table.PARTNER_PARTITIONS} (by partner)",
            "kept": _kept(topic),
            "owner": topic.owner,
            "events": [schema.__name__ for schema in topic.schemas],
        }
        for topic in table.TOPICS
    ]
    columns = ("name", "key", "partitions", "kept", "owner", "events")
    print_table(rows, [(column, column) for column in columns])


def _kept(topic: table.Topic) -> str:
    if topic.compacted:
        return "latest of each key"
    if topic.retention_ms is None:
        return "as the broker says"
    hours = topic.retention_ms // 3_600_000
    return f"{hours // 24} days" if hours % 24 == 0 else f"{hours} hours"
