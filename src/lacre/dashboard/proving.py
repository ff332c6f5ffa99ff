# SPDX-License-Identifier: Apache-2.0
"""
Whether the log proves one event: its leaf, the path to the root, and the signature over that.

What is compared is made from the stored entry, not taken from the columns beside it. Proves that
the event is in the tree that was signed; that nothing was taken out of that tree, or that it is the
one that others saw, `lacre audit verify` says. Implements ``spec/evidence-log.md``, sections 4 to 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import sqlalchemy as sa

from lacre._core.merkle import inclusion_proof, leaf_hash, verify_inclusion
from lacre.audit.entries import Entry
from lacre.audit.leaves import Leaf, leaf_text, shard_name
from lacre.audit.notes import origin_of, read_checkpoint
from lacre.errors import Tampered
from lacre.kms.signing import believed
from lacre.policy.model import PolicyFile
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader, SignedHead
from lacre.stores.log.schema import LEAF
from lacre.stores.log.tree import Nodes

__all__ = ["HeadState", "Outcome", "Proof", "heads", "prove"]


class Outcome(StrEnum):
    """What a proof came to."""

    PROVED = "proved"
    WAITING = "not signed yet"  # no checkpoint covers it
    UNBELIEVED = "no signer is believed"  # lacre.toml names none
    BROKEN = "does not verify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """
    The proof of one leaf: in a tree of *size* leaves, by the hashes of *path*, to *root*; *note* is
    the signed checkpoint. Hashes are hex. *line* is the entry as it is stored, *leaf* its hash.
    """

    outcome: Outcome
    line: str
    leaf: str
    size: int = 0
    path: tuple[str, ...] = ()
    root: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadState:
    """The newest checkpoint of a month: whether it is signed, and the tree that is stored has its root."""

    shard: str
    size: int
    time: int
    outcome: Outcome


def prove(log: AuditLog, settings: PolicyFile, leaf: Leaf) -> Proof:
    """Return the proof of *leaf* under the newest checkpoint of its month."""
    head = LogReader(log).checkpoint(leaf.shard)
    with log.snapshot() as connection:
        row = connection.execute(
            sa.select(LEAF.c.sequenced, LEAF.c.entry).where(
                LEAF.c.shard == leaf.shard, LEAF.c.seq == leaf.seq
            )
        ).one()
        hashed = leaf_hash(leaf_text(row.sequenced, bytes(row.entry)))
        line = bytes(row.entry).decode("utf-8", "replace")
        said = Proof(outcome=Outcome.WAITING, line=line, leaf=hashed.hex())
        if head is None or head.size <= leaf.seq:
            return said
        try:
            path = inclusion_proof(leaf.seq, head.size, Nodes(connection, leaf.shard))
        except Tampered:
            return _with(said, Outcome.BROKEN, head, ())
    try:
        Entry.read(bytes(row.entry))
        verify_inclusion(leaf.seq, head.size, hashed, path, head.root)
        outcome = _signed(settings, head)
    except Tampered:
        outcome = Outcome.BROKEN
    return _with(said, outcome, head, path)


def heads(log: AuditLog, settings: PolicyFile, *, most: int = 3) -> list[HeadState]:
    """Return the newest checkpoints, the newest month first: of *most* months."""
    reader, found = LogReader(log), []
    for shard in sorted((each.shard for each in reader.shards()), reverse=True)[:most]:
        head = reader.checkpoint(shard)
        if head is None:
            found.append(
                HeadState(shard=shard_name(shard), size=0, time=0, outcome=Outcome.WAITING)
            )
            continue
        try:
            with log.snapshot() as connection:
                stored = Nodes(connection, shard).root(head.size) if head.size else head.root
            if stored != head.root:
                raise Tampered
            outcome = _signed(settings, head)
        except Tampered:
            outcome = Outcome.BROKEN
        found.append(
            HeadState(shard=shard_name(shard), size=head.size, time=head.time, outcome=outcome)
        )
    return found


def _signed(settings: PolicyFile, head: SignedHead) -> Outcome:
    verifiers = believed(settings)
    if not verifiers:
        return Outcome.UNBELIEVED
    signed = read_checkpoint(head.note, verifiers)
    origin = origin_of(settings.app, settings.env, head.shard)
    # What was signed is compared, and not the columns beside it.
    if (signed.origin, signed.size, signed.root) != (origin, head.size, head.root):
        raise Tampered
    return Outcome.PROVED


def _with(said: Proof, outcome: Outcome, head: SignedHead, path: Sequence[bytes]) -> Proof:
    return Proof(
        outcome=outcome,
        line=said.line,
        leaf=said.leaf,
        size=head.size,
        path=tuple(each.hex() for each in path),
        root=head.root.hex(),
        note=head.note,
    )
