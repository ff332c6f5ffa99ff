"""The filler of logs: what it loads is a log, so that what is measured on it is what it would be on one."""

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre._core.merkle import Frontier
from lacre.audit.entries import Entry, moment
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import LEAF, TALLY
from lacre.stores.log.tree import StoredTree
from tests.components.postgresql import Database
from tests.evidence.filling import fill

END = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """An empty log."""
    url = f"sqlite:///{tmp_path}/audit.db"
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("database")
        url = database.text_url()
    log = AuditLog(url)
    yield log
    log.close()


def test_what_is_filled_in_is_a_log(log: AuditLog) -> None:
    """Entries are of the catalogue, hashes and roots are the tree's, tallies are the leaves counted, and the seed decides."""
    filled = fill(log, events=400, days=3, principals=10, end=END)
    with log.reading() as connection:
        leaves = connection.execute(sa.select(LEAF).order_by(LEAF.c.shard, LEAF.c.seq)).all()
        tallies = connection.execute(sa.select(TALLY)).all()
        trees = {shard: StoredTree.load(connection, shard) for shard in filled.sizes}

    assert list(filled.sizes) == [202610, 202611]
    counted: Counter[tuple[object, ...]] = Counter()
    frontiers = {shard: Frontier() for shard in filled.sizes}
    last = 0
    for leaf in leaves:
        entry = Entry.read(leaf.entry)
        line = moment(leaf.sequenced / 1_000_000).encode() + b"\n" + leaf.entry
        assert leaf.hash == hashlib.sha256(b"\x00" + line).digest()
        assert (entry.id, entry.action) == (leaf.id.hex(), leaf.action)
        assert entry.members["principal"] == leaf.principal
        assert moment(leaf.time / 1_000_000) == entry.members["time"]
        assert leaf.sequenced >= last
        assert leaf.seq == frontiers[leaf.shard].size
        last = leaf.sequenced
        frontiers[leaf.shard].append(leaf.hash)
        hour = leaf.time // 3_600_000_000 * 3_600_000_000
        purpose = entry.members["purpose"]
        counted[hour, leaf.principal, leaf.action, leaf.status, getattr(leaf, "class"), leaf.place, purpose] += 1  # fmt: skip
    assert {shard: tree.root() for shard, tree in frontiers.items()} == filled.roots
    assert {shard: tree.root() for shard, tree in trees.items()} == filled.roots
    assert {tuple(row[:7]): row.events for row in tallies} == dict(counted)
    assert sum(row.action not in ("heartbeat", "sequencing", "recording") for row in leaves) == 400
