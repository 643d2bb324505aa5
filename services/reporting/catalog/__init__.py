"""The catalog: offers as a partner sees and may run them, their links, the network, the partner.

A projection of `network.offers.v1`, `network.offer_partners.v1`, `network.partners.v1`,
`network.profile.v1` and `network.referrals.v1` (which `referrals/` answers from) into Postgres. A
thing is what its highest version says; an older one never replaces it, and a removed one does not
come back with it. A partner sees the offers they may run or apply for, their own links and payouts,
and nothing of another partner's.
"""
