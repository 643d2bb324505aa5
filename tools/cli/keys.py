"""`portico keys`: what a network's staff do with partners' keys, through the REST door."""

import typer

from tools.cli import keys_life, keys_links, keys_partners, keys_rewrap, keys_table

app = typer.Typer(help="Keys, allowlists, streams and budgets of a network.", no_args_is_help=True)

app.command()(keys_life.issue)
app.command("list")(keys_table.list_keys)
app.command()(keys_table.show)
app.command()(keys_table.export)
app.command()(keys_links.reshare)
app.command()(keys_links.links)
app.command()(keys_links.withdraw)
app.command()(keys_life.rotate)
app.command()(keys_life.revoke)
app.command()(keys_life.expire)
app.command()(keys_life.allow)
app.command()(keys_partners.suspend)
app.command()(keys_partners.resume)
app.command()(keys_partners.firehose)
app.command()(keys_partners.budget)
app.command()(keys_rewrap.rewrap)
