"""Reporting: answers partners' reads from projections of the log.

Areas with the same file names: over the facts (clicks, impressions, conversions, in ClickHouse)
`reports/`, `rows/`, `changes/` and `exports/`; `catalog/` (things: offers, partners, networks, in
Postgres); `meta/` (lists of reference). One process owns them; every query takes a
`Scope(network, partner)`, and none exists without it.
"""
