"""Referrals: what a partner earned by having referred other partners.

The catalog's projection writes the rows of `network.referrals.v1`; this area reads them. The public
API says nothing of this report's shape, so it is that of raw conversions: the amounts of an
interval in pages by time and id, each in the currency it was earned in. `totals` adds up all pages
by currency and status: sums over several currencies would need a rate that nobody agreed on.
"""
