"""How facts are asked for: requests read as deployed programs send them, and their SQL.

What a request may say is read here once for every route over facts, and becomes bound parameters
and conditions over the scoped views. What it does not say is for `reports/` and `rows/`.
"""
