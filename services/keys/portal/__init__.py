"""The partner's own view: a partner user sees the keys of their partner, and of nobody else.

Network and partner are those of the verified token; no request names them. A secret leaves only
after it is committed that it was shown, to whom, and who was behind an impersonation.
"""
