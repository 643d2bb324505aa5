"""Lists of reference: what time zones, countries, currencies, browsers and so on are called.

What the world decides comes from well-kept sources: zones from `zoneinfo`, countries, currencies
and languages from the Unicode CLDR (package Babel), under ids that are standards' own numbers. What
only the network's tracker decides, how it spells a city, a carrier, a browser, comes from the
caller's own facts of the last three months: so each label listed is one that filters and report
columns hold, and nothing of another partner's traffic shows.
"""
