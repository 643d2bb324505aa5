"""Loads a network's own clicks, impressions and conversions from a file into the tracking topics.

NDJSON: a line is the event of `shared/events.py`. CSV: the header names the fields, nested ones by
dots (`relationship.offer.network_offer_id`); an empty cell is a field left out; cells are converted
to the field's type. A field `type` (`click`, `impression`, `conversion`) may say what a line is;
otherwise its fields tell.

Every line that is not a correct event is reported with its number and the reason and written aside
to `FILE.rejected.ndjson`; the others are loaded. Ids are the network's own, so loading a file twice
counts nothing twice; a line without its id is refused rather than given one.
"""
