"""Aggregated reports over clicks, impressions and conversions, grouped by any columns."""
