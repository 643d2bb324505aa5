"""The firehose: the public door to a partner's events as they happen.

Owns nothing durable: a cursor is all that a stream needs to go on, at any replica. It holds
replicas of keys and partners' access to decide who may stream, and a tail of the tracking topics.

Invariants: an event reaches only the partner whose Kafka key it stands under, as the bytes in which
it came; within a type every event once and in the order of the log; an event is counted as sent
only when the connection has taken it; a stream ends within a second of the end of its right to be
open. It must never hold more per stream than one batch, nor serve from stale access tables.
"""
