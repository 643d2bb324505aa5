"""HTTP/1.1 on sockets, both ways: what the gateway hears from clients and says to services.

`wire.py` decides what bytes mean (pure), `server.py` is the client's side, `upstream.py` the
service's, `deadlines.py` ends what takes too long. Nothing here knows keys, budgets or routes: an
`Exchange` of the gateway stands between the two sides. Strict in what it accepts: what two parsers
could read differently is refused and the connection closed, never repaired.
"""
