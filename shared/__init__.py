"""What every service stands on: the four patterns around the log, and the contracts they share.

The patterns are `outbox`, `replica`, `projection` and `tail`. The contracts are `events`, `topics`
and `routes`. Everything else here is an edge (Kafka, Postgres, ClickHouse, HTTP, the process) or a
value that several services must read the same way (access, identity, errors, settings).
"""
