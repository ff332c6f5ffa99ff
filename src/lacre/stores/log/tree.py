# SPDX-License-Identifier: Apache-2.0
"""
The tree of a shard as it is stored: tiles beside the leaves, so that a proof reads few rows.

`StoredTree` grows it, in the transaction that adds the leaves; `Nodes` reads what proofs are made
of. Implements ``spec/evidence-log.md``, section 6. Signs nothing, and believes what is stored: a
proof made of tiles that somebody changed does not verify, and `lacre.stores.log.verifying`
compares every tile with the leaves.
"""

from collections.abc import Sequence
from typing import Self, final

import sqlalchemy as sa

from lacre._core import merkle
from lacre._core.merkle import TILE as WIDTH
from lacre._core.merkle import Tiles, node_hash
from lacre.errors import Tampered
from lacre.stores.log.schema import LEAF, TILE

__all__ = ["Nodes", "StoredTree"]

_HASH = 32
_LEVELS = 8  # of the tree, between a tile and those below it


@final
class StoredTree:
    """The tree of one shard, to be grown by one sequencer. After a rollback it is loaded again."""

    __slots__ = ("_shard", "_tiles")

    def __init__(self, shard: int, tiles: Tiles) -> None:
        self._shard = shard
        self._tiles = tiles

    @classmethod
    def load(cls, connection: sa.Connection, shard: int) -> Self:
        """
        Return the tree of the leaves that are there.

        Raises:
            Tampered: leaves or tiles are missing: the tree does not go on from what is stored.
        """
        newest = connection.scalar(sa.select(sa.func.max(LEAF.c.seq)).where(LEAF.c.shard == shard))
        size = 0 if newest is None else int(newest) + 1
        nodes = Nodes(connection, shard)
        last, level = [], 0
        while size >> _LEVELS * level:
            whole = size >> _LEVELS * level
            last.append(nodes.hashes(level, whole - whole % WIDTH, whole))
            level += 1
        return cls(shard, Tiles(last, size=size))

    @property
    def size(self) -> int:
        return self._tiles.size

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        return self._tiles.root()

    def extend(self, connection: sa.Connection, hashes: Sequence[bytes]) -> None:
        """Add leaves by their hashes, and write what that fills, in the transaction of *connection*."""
        grown: dict[tuple[int, int], list[bytes]] = {}
        began: dict[tuple[int, int], int] = {}
        for level, place, each in self._tiles.extend(hashes):
            index, offset = divmod(place, WIDTH)
            began.setdefault((level, index), offset)
            grown.setdefault((level, index), []).append(each)
        for (level, index), added in grown.items():
            self._append(connection, level, index, began[level, index], added)

    def _append(
        self, connection: sa.Connection, level: int, index: int, offset: int, added: list[bytes]
    ) -> None:
        place = {"shard": self._shard, "level": level, "index": index}
        if offset == 0:
            connection.execute(sa.insert(TILE).values(**place, hashes=b"".join(added)))
            return
        here = sa.and_(*(TILE.c[name] == value for name, value in place.items()))
        stored = connection.scalar(sa.select(TILE.c.hashes).where(here))
        if stored is None or len(stored) != offset * _HASH:
            raise _torn()
        connection.execute(
            sa.update(TILE).where(here).values(hashes=bytes(stored) + b"".join(added))
        )


@final
class Nodes:
    """
    The perfect subtrees of a stored tree, as `lacre._core.merkle` asks for them.

    Raises:
        Tampered: a leaf or a tile that one is made of is missing.
    """

    __slots__ = ("_connection", "_held", "_shard")

    def __init__(self, connection: sa.Connection, shard: int) -> None:
        self._connection = connection
        self._shard = shard
        self._held: dict[tuple[int, int], bytes] = {}

    def __call__(self, level: int, index: int) -> bytes:
        tiles, below = divmod(level, _LEVELS)
        found = self.hashes(tiles, index << below, index + 1 << below)
        while len(found) > 1:
            found = [node_hash(*found[at : at + 2]) for at in range(0, len(found), 2)]
        return found[0]

    def root(self, size: int) -> bytes:
        """Return the root of the first *size* leaves, as leaves and tiles have it."""
        return merkle.root_at(size, self)

    def hashes(self, level: int, begin: int, end: int) -> list[bytes]:
        """Return hashes *begin* to *end* of a level of tiles, all of one tile. Level 0 is the leaves."""
        if begin == end:
            return []
        index, offset = divmod(begin, WIDTH)
        tile = self._tile(level, index)
        if len(tile) < (offset + end - begin) * _HASH:
            raise _torn()
        return [tile[at * _HASH : (at + 1) * _HASH] for at in range(offset, offset + end - begin)]

    def _tile(self, level: int, index: int) -> bytes:
        if (level, index) not in self._held:
            self._held[level, index] = (
                self._leaves(index) if level == 0 else self._stored(level, index)
            )
        return self._held[level, index]

    def _stored(self, level: int, index: int) -> bytes:
        found = self._connection.scalar(
            sa.select(TILE.c.hashes).where(
                TILE.c.shard == self._shard, TILE.c.level == level, TILE.c.index == index
            )
        )
        return b"" if found is None else bytes(found)

    def _leaves(self, index: int) -> bytes:
        first = index * WIDTH
        rows = self._connection.execute(
            sa.select(LEAF.c.seq, LEAF.c.hash)
            .where(LEAF.c.shard == self._shard, LEAF.c.seq.between(first, first + WIDTH - 1))
            .order_by(LEAF.c.seq)
        )
        found = []
        for at, (seq, each) in enumerate(rows):
            # A leaf after one that is missing is not in its place.
            if seq != first + at or len(each) != _HASH:
                break
            found.append(bytes(each))
        return b"".join(found)


def _torn() -> Tampered:
    return Tampered.signed("the stored tree of the log")
