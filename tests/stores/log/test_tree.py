# SPDX-License-Identifier: Apache-2.0
"""The stored tree, on SQLite: the same tables and statements as on PostgreSQL."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from lacre._core import merkle
from lacre._core.merkle import Frontier, Tiles, leaf_hash
from lacre.errors import MisuseError, Tampered
from lacre.stores.log.schema import LEAF, TILE, metadata
from lacre.stores.log.tree import Nodes, StoredTree

pytestmark = pytest.mark.any_sqlalchemy

SHARD = 202611


def hashes(begin: int, end: int) -> list[bytes]:
    return [leaf_hash(str(each).encode()) for each in range(begin, end)]


def root(size: int) -> bytes:
    tree = Frontier()
    tree.extend(hashes(0, size))
    return tree.root()


def grow(connection: sa.Connection, tree: StoredTree, to: int) -> None:
    """Add leaves as a sequencer does: rows and tiles in one transaction."""
    begin = tree.size
    added = hashes(begin, to)
    rows = [
        {"shard": SHARD, "seq": begin + at, "id": (begin + at).to_bytes(16, "big"), "sequenced": 0, "time": 0,
         "action": "look", "status": "compliant", "principal": "", "tenant": "", "hash": each, "entry": b""}
        for at, each in enumerate(added)
    ]  # fmt: skip
    if rows:
        connection.execute(sa.insert(LEAF), rows)
    tree.extend(connection, added)


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as opened:
        yield opened
    engine.dispose()


@pytest.mark.parametrize("steps", [(1, 2, 3), (255, 256, 257), (256,), (1000, 1001), (3000, 3001)])
def test_a_tree_goes_on_from_what_is_stored(
    connection: sa.Connection, steps: tuple[int, ...]
) -> None:
    """A tree that is loaded again at every step has the root of all its leaves, now and at any size before."""
    for to in steps:
        grow(connection, StoredTree.load(connection, SHARD), to)
    tree = StoredTree.load(connection, SHARD)
    nodes = Nodes(connection, SHARD)

    assert (tree.size, tree.root()) == (steps[-1], root(steps[-1]))
    for size in {*steps, steps[-1] // 2}:
        assert nodes.root(size) == root(size)


def test_proofs_read_tiles(connection: sa.Connection) -> None:
    """A proof in a tree of 66,000 leaves reads six tiles at most, and verifies."""
    tree = StoredTree.load(connection, SHARD)
    grow(connection, tree, 66_000)
    statements: list[str] = []
    sa.event.listen(connection, "before_cursor_execute", lambda *given: statements.append(given[2]))
    nodes = Nodes(connection, SHARD)
    included = merkle.inclusion_proof(65_999, 66_000, nodes)
    consistent = merkle.consistency_proof(65_999, 66_000, nodes)

    merkle.verify_inclusion(65_999, 66_000, leaf_hash(b"65999"), included, tree.root())
    merkle.verify_consistency(65_999, 66_000, root(65_999), tree.root(), consistent)
    assert len(statements) <= 6


def test_a_tree_with_a_hole_is_refused(connection: sa.Connection) -> None:
    """Neither a missing leaf nor a missing or short tile is passed over, when a tree goes on or is proved."""
    grow(connection, StoredTree.load(connection, SHARD), 600)
    for damage in (
        sa.delete(LEAF).where(LEAF.c.seq == 590),
        sa.update(LEAF).where(LEAF.c.seq == 590).values(hash=b"short"),
        sa.delete(TILE),
        sa.update(TILE).values(hashes=bytes(32)),
    ):
        with connection.begin_nested() as savepoint:
            connection.execute(damage)

            with pytest.raises(Tampered):
                StoredTree.load(connection, SHARD)
            savepoint.rollback()


def test_a_tile_that_grew_elsewhere_is_not_written_over(connection: sa.Connection) -> None:
    """Of two who grow one tree, the one who does not know of the other's leaves fails."""
    grow(connection, StoredTree.load(connection, SHARD), 256)
    behind = StoredTree.load(connection, SHARD)
    grow(connection, StoredTree.load(connection, SHARD), 512)

    with pytest.raises(Tampered):
        behind.extend(connection, hashes(256, 512))


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(1, 700), max_size=6))
def test_tiles_are_the_same_however_leaves_come(parts: list[int]) -> None:
    """Which hashes belong in tiles does not depend on how leaves were cut into batches."""
    size = sum(parts)
    at_once, tree, begin, made = Tiles(), Tiles(), 0, []
    for part in parts:
        made += tree.extend(hashes(begin, begin + part))
        begin += part

    assert sorted(made) == sorted(at_once.extend(hashes(0, size)))
    assert tree.root() == at_once.root() == root(size)


def test_a_state_of_another_size_is_refused() -> None:
    """Tiles that are not those of the size are no state to go on from."""

    with pytest.raises(MisuseError):
        Tiles([hashes(0, 3)], size=2)
    with pytest.raises(MisuseError):
        Tiles([[]], size=256)
