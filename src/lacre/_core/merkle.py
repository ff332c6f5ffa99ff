# SPDX-License-Identifier: Apache-2.0
"""
Merkle trees: their roots, their proofs, and the check of proofs.

The tree of RFC 6962, section 2 (RFC 9162 has the same with SHA-256). A `Frontier` grows by leaf
hashes and gives the root at any moment, holding one hash for each bit of the size; `Tiles` says
besides which hashes inside the tree are to be kept. Proofs are made of perfect subtrees, which a
function of the caller looks up: ``node(level, index)`` is the hash of the ``2**level`` leaves from
``index * 2**level``. Implements ``spec/evidence-log.md``, section 6.
Stores nothing and signs nothing.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import final

from lacre.errors import MisuseError, Tampered

__all__ = [
    "EMPTY",
    "TILE",
    "Frontier",
    "Node",
    "Tiles",
    "consistency_proof",
    "inclusion_proof",
    "leaf_hash",
    "node_hash",
    "root_at",
    "verify_consistency",
    "verify_inclusion",
]

Node = Callable[[int, int], bytes]

# The hashes of a tile; so many levels of the tree lie between a tile and those below it.
TILE = 256
_TILE_LEVELS = 8

_HASH = 32
_sha256 = hashlib.sha256

# The root of a tree without leaves.
EMPTY = _sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf. The 0x00 before it, and the 0x01 before two nodes, keep one from being passed off as the other."""
    return _sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node over two others."""
    return _sha256(b"\x01" + left + right).digest()


@final
class Frontier:
    """
    A tree that grows at its end: its size, and the roots of its perfect subtrees, largest first.

    Args:
        size: of the tree so far.
        hashes: as `hashes` returned them at that size.

    Raises:
        MisuseError: their number is not that of the bits of *size*.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        if (
            size < 0
            or len(hashes) != size.bit_count()
            or any(len(each) != _HASH for each in hashes)
        ):
            raise MisuseError(
                "the frontier of a tree has one hash of 32 bytes for each bit of its size"
            )
        self._size = size
        self._hashes = list(hashes)

    @property
    def size(self) -> int:
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The state to go on from."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf, by its hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaves, by their hashes."""
        hashes, size, sha256 = self._hashes, self._size, _sha256
        for leaf in leaves:
            joined, below = leaf, size
            while below & 1:
                joined = sha256(b"\x01" + hashes.pop() + joined).digest()
                below >>= 1
            hashes.append(joined)
            size += 1
        self._size = size

    def join(self, level: int, root: bytes) -> None:
        """Add a perfect subtree of ``2**level`` leaves by its root; the size is a multiple of that."""
        if self._size & ((1 << level) - 1):
            raise MisuseError("a subtree is joined where it is aligned")
        below = self._size >> level
        while below & 1:
            root = node_hash(self._hashes.pop(), root)
            below >>= 1
        self._hashes.append(root)
        self._size += 1 << level

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        return _folded(self._hashes)

    def copy(self) -> "Frontier":
        return Frontier(self._size, self._hashes)


@final
class Tiles:
    """
    A tree that grows at its end, and says which hashes of whole tiles came to be.

    Args:
        last: of each level of tiles, the hashes of its last tile, which is not whole: those of
            leaves first.
    """

    __slots__ = ("_levels", "_size")

    def __init__(self, last: Sequence[Sequence[bytes]] = (), *, size: int = 0) -> None:
        self._levels: list[Frontier] = []
        for level, hashes in enumerate(last):
            if len(hashes) != (size >> _TILE_LEVELS * level) % TILE:
                raise MisuseError("the last tile of a level has as many hashes as its size says")
            self._levels.append(Frontier())
            self._levels[-1].extend(hashes)
        if size >> _TILE_LEVELS * len(last):
            raise MisuseError("a tree has a tile for each level of its size")
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def extend(self, leaves: Sequence[bytes]) -> list[tuple[int, int, bytes]]:
        """Add leaves, by their hashes; return what belongs in tiles: the level, the place in it, the hash."""
        made: list[tuple[int, int, bytes]] = []
        hashes, level = leaves, 0
        while hashes:
            if level == len(self._levels):
                self._levels.append(Frontier())
            above: list[bytes] = []
            begin = 0
            while begin < len(hashes):
                tile = self._levels[level]
                some = hashes[begin : begin + TILE - tile.size]
                tile.extend(some)
                begin += len(some)
                if tile.size == TILE:
                    above.append(tile.root())
                    self._levels[level] = Frontier()
            level += 1
            whole = self._size >> _TILE_LEVELS * level
            made.extend((level, whole + at, each) for at, each in enumerate(above))
            hashes = above
        self._size += len(leaves)
        return made

    def frontier(self) -> Frontier:
        """Return the tree as it is now, without its tiles."""
        found = [each for level in reversed(self._levels) for each in level.hashes]
        return Frontier(self._size, found)

    def root(self) -> bytes:
        """Return the root of the tree as it is now."""
        return self.frontier().root()


def root_at(size: int, node: Node) -> bytes:
    """Return the root of the first *size* leaves of a tree."""
    return _range(0, size, node)


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """Return the proof that leaf *index* is in the tree of *size* leaves: siblings, from the leaf's upwards."""
    if not 0 <= index < size:
        raise MisuseError("a leaf is in the tree or has no proof")
    proof: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            proof.append(_range(middle, end, node))
            end = middle
        else:
            proof.append(_range(begin, middle, node))
            begin = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, new: int, node: Node) -> list[bytes]:
    """Return the proof that the tree of *old* leaves is the beginning of that of *new* leaves."""
    if not 0 < old <= new:
        raise MisuseError("a tree is consistent with a later one, and not empty")
    proof: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            proof.append(_range(middle, end, node))
            end = middle
        else:
            proof.append(_range(begin, middle, node))
            begin, whole = middle, False
    if not whole:
        proof.append(_range(begin, end, node))
    proof.reverse()
    return proof


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """
    Return if the leaf of hash *leaf* is leaf *index* of the tree of *size* leaves and that *root*.

    Raises:
        Tampered: it is not, or the proof is of something else.
    """
    if not 0 <= index < size:
        raise _refused()
    found, at, last, rest = leaf, index, size - 1, iter(proof)
    # RFC 9162, section 2.1.3.2.
    for each in rest:
        if last == 0:
            raise _refused()
        if at & 1 or at == last:
            found = node_hash(each, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, each)
        at, last = at >> 1, last >> 1
    if last or found != root:
        raise _refused()


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """
    Return if the tree of *old* leaves with *old_root* is the beginning of that of *new* leaves with *new_root*.

    Raises:
        Tampered: it is not, or the proof is of something else.
    """
    if not 0 < old <= new:
        raise _refused()
    if old == new:
        if proof or old_root != new_root:
            raise _refused()
        return
    # RFC 9162, section 2.1.4.2.
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise _refused()
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    before = after = path[0]
    for each in path[1:]:
        if last == 0:
            raise _refused()
        if at & 1 or at == last:
            before, after = node_hash(each, before), node_hash(each, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, each)
        at, last = at >> 1, last >> 1
    if last or before != old_root or after != new_root:
        raise _refused()


def _split(size: int) -> int:
    # The largest power of two below size.
    return 1 << (size - 1).bit_length() - 1


def _range(begin: int, end: int, node: Node) -> bytes:
    # begin is a multiple of a power of two that is not below end - begin: what proofs ask for.
    return _folded([node(level, index) for level, index in _perfect(begin, end)])


def _perfect(begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        level = (end - begin).bit_length() - 1
        yield level, begin >> level
        begin += 1 << level


def _folded(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY
    found = hashes[-1]
    for each in reversed(hashes[:-1]):
        found = node_hash(each, found)
    return found


def _refused() -> Tampered:
    return Tampered.signed("the proof")
