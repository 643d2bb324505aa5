"""Facts: reports over clicks, impressions and conversions, and the raw rows themselves.

The facts are in ClickHouse, one row a record of the log, idempotent by id and version. Every read
goes through a view that takes network and partner (`tables.py`), so no query can leave its scope.
"""
