"""Single-use links to a key: staff make one, the partner opens it, and it shows the key once.

A link holds 256 random bits, of which only the digest is kept. It works once however many open it
together, it ends by itself, and each of its steps is an event that commits with the step: what
shows a key was noted before. Looking at a link changes nothing, so that a preview cannot burn it.
"""
