# SPDX-License-Identifier: Apache-2.0
"""
Stretches: how the tree of a shard is cut, so that its parts can be examined apart and joined.

Implements ``spec/evidence-log.md``, section 8. Examines nothing (`lacre.audit.verification`).
"""

from collections.abc import Sequence

from lacre._core.merkle import Frontier

__all__ = ["STRETCH", "grown_to", "split"]

# Leaves of a stretch: a power of two, and a multiple of a tile.
STRETCH = 16_384


def split(frontier: Frontier) -> tuple[Frontier, Frontier]:
    """Return the tree of the whole stretches of a frontier, and what it has of the next one."""
    rest = frontier.size % STRETCH
    whole = len(frontier.hashes) - rest.bit_count()
    return Frontier(frontier.size - rest, frontier.hashes[:whole]), Frontier(
        rest, frontier.hashes[whole:]
    )


def grown_to(tree: Frontier, size: int, hashes: Sequence[bytes]) -> Frontier:
    """Return *tree*, of whole stretches, grown to *size* by the stretch after it, whose own frontier is *hashes*."""
    if size - tree.size < STRETCH:
        return Frontier(size, (*tree.hashes, *hashes))
    found = tree.copy()
    found.join(STRETCH.bit_length() - 1, hashes[0])
    return found
