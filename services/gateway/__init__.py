"""The gateway: the public door to the REST API.

Owns nothing durable. It holds three replicas (keys, partners' access, networks' budgets) and
decides by them alone, so that nothing on a request's way waits for Kafka or a database.

Invariants: an unknown path is answered before anybody is asked who they are; the partner's key and
the client's own `X-Portico-Identity` never leave this process; a request that is let in carries an
identity signed here; rate-limit headers say what was decided. It must never answer from a table
older than `GATEWAY_STALE_SECONDS`, collect a body, or keep a request waiting for its own reports.
"""
