"""The table of a network's keys: its rows in any order, page by page, or as a file.

It only reads, and never the columns that hold a secret: a row shows a key by its mask. Every
statement names the network of the token.
"""
