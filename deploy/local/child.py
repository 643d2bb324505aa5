"""Becomes a given program after asking the kernel for a signal when the parent dies.

    python child.py PARENT_PID DEATH_SIGNAL USER PROGRAM ARGUMENT...

USER is a user id to become first, or `-`. It is for programs that refuse to run as root: the one
privilege kept is that of passing through folders which only root may enter, so that their data may
lie below such a folder. Runs with the standard library alone and without site packages, since each
child pays for its start.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522


def die_with_parent(parent: int, signal: int) -> None:
    """Have the kernel send `signal` when process `parent` is gone; exit if it already is."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def become(user: int) -> None:
    """Give up root for `user`, but go on passing through folders, as far as the system lets us."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    if libc:
        bit = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        effective_permitted_inheritable = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
        libc.capset(header, effective_permitted_inheritable)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def main(arguments: list[str]) -> None:
    """Become the program; returns only by an error."""
    parent, signal, user, *command = arguments
    if user != "-":
        become(int(user))  # first: a change of user forgets the request for the signal
    die_with_parent(int(parent), int(signal))
    os.execvp(command[0], command)  # noqa: S606 - the point of this file


if __name__ == "__main__":
    main(sys.argv[1:])
