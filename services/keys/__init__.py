"""Keys: who may call the doors with which key, decided by the network's staff, told through Kafka.

Owns the schema `keys` and the topics `keys.events.v1`, `keys.state.v1`, `partners.access.v1` and
`networks.state.v1`. Invariants: a change and the events that tell it commit together; a partner has
one active key an integration, beside it only those that it was rotated from; a revoked key stays
revoked, also where the database was restored to a time before; a secret is stored sealed, and
leaves the service only in answers that show it, each of which is an event. It never answers for
another network than the token's, and never changes anything for somebody without the permission.
"""
