"""`python -m tools.demo`: the whole story, played against a platform of its own and checked.

Only public interfaces are used: the two doors, and the simulator's ledger as the truth to compare
with. One exception: to show that tampering is found, a row of the trail is changed by SQL, and
restored. The result is `build/demo.json`; the exit status is 1 if any step failed.
"""
