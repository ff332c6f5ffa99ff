# SPDX-License-Identifier: Apache-2.0
"""
Where a log is: its last leaf, its tree, and whether that is the tree that was signed.

A sequencer that was killed left leaves without a checkpoint. They are taken as what waits is: each
is an entry that anybody may hand over, in its columns and under its hash. Implements ``spec/evidence-log.md``, section 5. Adds nothing (`lacre.stores.log.sequencer`).
"""

from collections.abc import Collection
from dataclasses import dataclass

import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.audit.accepting import accept
from lacre.audit.comparing import StoredLeaf, is_drawn
from lacre.audit.entries import Entry, Stamp
from lacre.audit.leaves import leaf_text, shard_of
from lacre.audit.notes import Verifier, origin_of, read_checkpoint
from lacre.errors import Tampered
from lacre.stores.log import loading
from lacre.stores.log.schema import CHECKPOINT, LEAF
from lacre.stores.log.tree import Nodes, StoredTree

__all__ = ["Head", "load_head", "rested"]

_ROWS = 256  # leaves that are read at once
_STORED = [
    LEAF.c["count" if name == "counted" else name.rstrip("_")] for name in StoredLeaf._fields
]


@dataclass(slots=True, kw_only=True)
class Head:
    """Where the log is: what no transaction that rolled back may leave behind. *signed* is the size of the shard's last checkpoint."""

    shard: int
    tree: StoredTree
    sequenced: int
    signed: int


def load_head(
    connection: sa.Connection,
    stamp: Stamp,
    verifiers: Collection[Verifier],
    *,
    vouched: tuple[int, int, bytes] | None,
) -> Head | None:
    """
    Return where the log is; None of an empty one.

    Args:
        vouched: shard, size and root of what whoever asks appended last.

    Raises:
        Tampered: its tree does not begin with what was signed before, or goes on with what no
            sequencer leaves unsigned.
    """
    last = connection.execute(
        sa.select(LEAF.c.shard, LEAF.c.sequenced)
        .order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc())
        .limit(1)
    ).one_or_none()
    newest = connection.execute(
        sa.select(CHECKPOINT).order_by(CHECKPOINT.c.shard.desc(), CHECKPOINT.c.size.desc())
    ).first()
    if last is None:
        if newest is not None or vouched is not None:
            raise _replaced()
        return None
    if vouched is not None:
        shard, size, root = vouched
        if Nodes(connection, shard).root(size) != root:
            raise _replaced()
    signed = 0
    if newest is not None:
        # Nothing is signed over a tree that does not begin with what was signed before.
        believed = read_checkpoint(newest.note, verifiers)
        at = (origin_of(stamp.app, stamp.env, newest.shard), newest.size)
        if (believed.origin, believed.size) != at or newest.shard > last.shard:
            raise _replaced()
        if Nodes(connection, newest.shard).root(newest.size) != believed.root:
            raise _replaced()
        signed = newest.size if newest.shard == last.shard else 0
    tree = StoredTree.load(connection, last.shard)
    if tree.size < signed:
        raise _replaced()
    known = vouched[1] if vouched is not None and vouched[0] == last.shard else 0
    _check_unsigned(connection, stamp, last.shard, max(signed, known), tree.size)
    return Head(shard=last.shard, tree=tree, sequenced=last.sequenced, signed=signed)


def rested(connection: sa.Connection, head: Head) -> bool:
    """Whether the last leaf says that who sequenced rests."""
    last = connection.execute(
        sa.select(LEAF.c.action, LEAF.c.step).where(
            LEAF.c.shard == head.shard, LEAF.c.seq == head.tree.size - 1
        )
    ).one()
    return (last.action, last.step) == ("sequencing", "rested")


def _check_unsigned(
    connection: sa.Connection, stamp: Stamp, shard: int, begin: int, end: int
) -> None:
    before = 0
    for at in range(begin, end, _ROWS):
        rows = loading.stored(connection, LEAF, _STORED, shard, at, min(end, at + _ROWS))
        for leaf in map(StoredLeaf._make, rows):
            try:
                entry = Entry.read(leaf.entry)
                # Columns and hash too: queries and the tree are made of them.
                accept(entry, leaf.entry, stamp)
                right = (
                    is_drawn(entry, leaf)
                    and leaf_hash(leaf_text(leaf.sequenced, leaf.entry)) == leaf.hash
                    and shard_of(leaf.sequenced) == shard
                    and leaf.sequenced >= before
                )
            except (Tampered, ValueError, TypeError, AttributeError, OverflowError):
                right = False
            if not right:
                raise _replaced()
            before = leaf.sequenced


def _replaced() -> Tampered:
    return Tampered.signed("the evidence log")
