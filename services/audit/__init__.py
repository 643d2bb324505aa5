"""Audit: what happened, once, in an order nobody can change unseen, and what looks unusual.

Owns the schema `audit` (trail, heads, anomalies), the checkpoint folder, and the topics
`audit.anomalies.v1` and `audit.checkpoints.v1`. Invariants: every key event, refusal and stream
session is one entry of its network's hash chain; entries are only ever appended; a checkpoint is
signed only for a chain that continues from the checkpoint before it. It never rewrites an entry,
never answers for another network, and never holds a secret.
"""
