"""Reporting: answers partners' reads from projections of the log.

Three areas with the same file names: `reports/` (facts: clicks, impressions, conversions, in
ClickHouse), `catalog/` (things: offers, partners, networks, in Postgres) and `meta/` (lists of
reference). One process owns them; every query takes a `Scope(network, partner)`, and none exists
without it.
"""
