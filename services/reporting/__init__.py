"""Reporting: answers partners' reads from projections of the log.

Two areas with the same file names: `reports/` (facts: clicks, impressions, conversions, in
ClickHouse) and `catalog/` (things: offers, the network, time zones, in Postgres). One process owns
both; every query takes a `Scope(network, partner)`, and none exists without it.
"""
