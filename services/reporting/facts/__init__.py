"""What the facts are: their tables, the columns they are grouped by, their way in, their numbers.

Clicks, impressions and conversions are in ClickHouse, one row a record of the log, idempotent by id
and version. `asking/` says how they are asked for, `reports/` and `rows/` what is answered.
"""
