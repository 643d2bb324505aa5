"""The change feed: every change of a partner's conversions once, in the order of the log.

Polling it from the beginning makes a copy of the partner's conversions that follows the ledger:
also a conversion that is rejected, scrubbed, held or released, which simply leaves or enters the
answers of the other endpoints, is told here.

The rows are in a table of their own, `conversion_changes`, one for each place in the log. What a
poll tells of them is decided when it is asked (`domain.py`), from the places alone.
"""
