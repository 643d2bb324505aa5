"""When, from where and for what keys were last used, told by the doors' own summaries.

Owns `key_usage`, `key_sources` and `usage_batches`. No request waits for it and none is written by
itself: what the doors tell is gathered for some seconds, and a batch writes a key's row once. It
never locks a key, and whatever happens to it, staff can still end one.
"""
