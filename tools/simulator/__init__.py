"""A stand-in for a network's own platform: what its tracker and its CRM put on the log.

From a seed it makes two networks with partners, offers and links, a week of history, then live
traffic: skewed partners, a daily curve, conversions minutes to hours after their click, pending
ones decided later, holds, reversals, late records and duplicates. Every record is written to a
ledger before it is sent, so that what a partner is shown can be compared with it exactly.

It owns `network.*.v1` and `tracking.*.v1` of the local platform, and no network of real partners
ever runs it.
"""
