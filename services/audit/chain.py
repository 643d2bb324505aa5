"""The hash chain of a network's trail, and the proof that nobody changed it. Pure.

An entry's `content` is canonical JSON (sorted keys, no spaces, UTF-8) of everything it says, with
its place in the chain and the hash of the entry before it; its hash is the SHA-256 of those very
bytes. The first entry names the genesis of its network, so that no chain can pass for another's.

Changing an entry changes its hash, and so every hash after it. Who can write the database can
recompute them all, but not the signed checkpoints kept outside it: `Verifier` compares both, and
finds an edit, deletion, insertion, reordering or cut-off tail up to the last checkpoint. Entries
after the last checkpoint are held together by their hashes only.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

GENESIS: Final = "portico.audit.v1"

ProblemKind = Literal[
    "edited", "deleted", "inserted", "reordered", "rewritten", "cut_off", "unreadable", "forged"
]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the last entry's sequence (0 when empty) and its hash, lower-case hex."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One link as it is stored: the exact text that is hashed, and the hash that was noted."""

    content: str
    hash: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A place that a genuine checkpoint vouches for: this sequence had this hash."""

    sequence: int
    hash: str


@dataclass(frozen=True, slots=True)
class Problem:
    """The first thing wrong with a chain.

    Attributes:
        kind: what was done to it. `rewritten` means that entries agree with one another but not
            with a checkpoint: somebody recomputed the hashes. `forged` is about a checkpoint.
        sequence: the entry concerned; for `rewritten`, the checkpoint that differs.
        detail: the finding in a sentence.
    """

    kind: ProblemKind
    sequence: int
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found.

    Attributes:
        entries: how many were read.
        checkpoints: how many vouch for the chain.
        covered_sequence: the last entry that a checkpoint was found to vouch for; 0 when none.
        problem: the first one, or None.
    """

    entries: int
    checkpoints: int
    covered_sequence: int
    problem: Problem | None

    @property
    def is_intact(self) -> bool:
        """Whether nothing was found."""
        return self.problem is None


def canonical(value: Mapping[str, Any]) -> str:
    """`value` as the one JSON text that stands for it: sorted keys, no spaces, not escaped."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(content: str) -> str:
    """The hash of an entry's content, lower-case hex."""
    return hashlib.sha256(content.encode()).hexdigest()


def genesis(network_id: int) -> Head:
    """The head of a network's chain before its first entry."""
    return Head(0, digest(f"{GENESIS}:{network_id}"))


def link(head: Head, network_id: int, fields: Mapping[str, Any]) -> StoredEntry:
    """The entry that continues `head` with `fields`."""
    content = canonical(
        {
            **fields,
            "network_id": network_id,
            "sequence": head.sequence + 1,
            "previous": head.hash,
        }
    )
    return StoredEntry(content, digest(content))


def extend(
    head: Head, network_id: int, drafts: Iterable[Mapping[str, Any]]
) -> tuple[list[StoredEntry], Head]:
    """Entries for `drafts` in their order, continuing `head`, and the new head."""
    entries: list[StoredEntry] = []
    for fields in drafts:
        entry = link(head, network_id, fields)
        entries.append(entry)
        head = Head(head.sequence + 1, entry.hash)
    return entries, head


class _Link(msgspec.Struct, frozen=True):
    """What an entry's content says about its place."""

    network_id: int
    sequence: int
    previous: str


_LINKS: Final = msgspec.json.Decoder(_Link)


def _link_of(content: str) -> _Link | None:
    """The place that `content` claims, or None where it is not an entry at all."""
    try:
        return _LINKS.decode(content)
    except (msgspec.MsgspecError, RecursionError):
        return None


class Verifier:
    """Walks a network's entries in stored order and remembers the first problem.

    Feed it every entry, in as many batches as is convenient; memory does not grow. It goes on after
    a problem, since only what follows tells a deletion from a reordering.

    Args:
        network_id: whose chain it is.
        marks: what genuine checkpoints vouch for.
        start: where the entries continue; the genesis if None.
    """

    def __init__(
        self, network_id: int, marks: Iterable[Mark] = (), *, start: Head | None = None
    ) -> None:
        self._network_id = network_id
        self._head = start or genesis(network_id)
        self._marks = {mark.sequence: mark.hash for mark in marks}
        self._entries = 0
        self._covered = 0
        self._problem: Problem | None = None

    @property
    def head(self) -> Head:
        """The last entry that was found in order."""
        return self._head

    @property
    def problem(self) -> Problem | None:
        """The first problem so far."""
        return self._problem

    def feed(self, entries: Iterable[StoredEntry]) -> None:
        """Check the next entries."""
        for entry in entries:
            self._entries += 1
            if self._problem is None:
                self._check(entry)
            elif self._problem.kind == "deleted":
                self._look_for_missing(entry, self._problem.sequence)

    def finish(self, noted_head: Head | None = None) -> Verdict:
        """The verdict, once every entry was fed.

        Args:
            noted_head: the head that the database notes beside the trail, if it is to be compared.
        """
        if self._problem is None:
            self._check_end(noted_head)
        return Verdict(self._entries, len(self._marks), self._covered, self._problem)

    def _check(self, entry: StoredEntry) -> None:
        place = _link_of(entry.content)
        expected = self._head.sequence + 1
        if place is None:
            self._found("unreadable", expected, "its content is no entry")
        elif digest(entry.content) != entry.hash:
            self._found("edited", expected, "its content does not have the hash noted beside it")
        elif place.network_id != self._network_id:
            self._found("inserted", expected, f"it belongs to network {place.network_id}")
        elif place.sequence > expected:
            self._found("deleted", expected, f"entry {place.sequence} follows {expected - 1}")
        elif place.sequence < expected:
            self._found("inserted", place.sequence, f"it stands again after {expected - 1}")
        elif place.previous != self._head.hash:
            self._found("edited", self._head.sequence, f"entry {expected} does not continue it")
        else:
            self._accept(Head(expected, entry.hash))

    def _accept(self, head: Head) -> None:
        self._head = head
        vouched = self._marks.get(head.sequence)
        if vouched == head.hash:
            self._covered = head.sequence
        elif vouched is not None:
            self._found(
                "rewritten",
                head.sequence,
                f"its hash is {head.hash}, a signed checkpoint says {vouched}: "
                f"an entry up to {head.sequence} was changed and the hashes were recomputed",
            )

    def _look_for_missing(self, entry: StoredEntry, missing: int) -> None:
        place = _link_of(entry.content)
        if place is not None and place.sequence == missing:
            self._problem = Problem("reordered", missing, f"entry {missing} stands further on")

    def _check_end(self, noted_head: Head | None) -> None:
        last = self._head.sequence
        vouched = max(self._marks, default=0)
        if vouched > last:
            self._found("cut_off", last + 1, f"a signed checkpoint says there was entry {vouched}")
        elif noted_head is not None and noted_head.sequence > last:
            self._found("cut_off", last + 1, f"there was an entry {noted_head.sequence}")
        elif noted_head is not None and noted_head != self._head:
            self._found("edited", last, "the head noted beside the trail is not its last entry")

    def _found(self, kind: ProblemKind, sequence: int, detail: str) -> None:
        self._problem = Problem(kind, sequence, f"Entry {sequence}: {detail}.")


def verify(
    network_id: int,
    entries: Iterable[StoredEntry],
    marks: Sequence[Mark] = (),
    *,
    noted_head: Head | None = None,
) -> Verdict:
    """The verdict on a whole chain, in its stored order."""
    verifier = Verifier(network_id, marks)
    verifier.feed(entries)
    return verifier.finish(noted_head)
