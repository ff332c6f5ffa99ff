"""Leaves in a log without a sequencer: what one would have put there, the tree aside."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.audit.entries import Entry, written
from lacre.audit.event import Event
from lacre.audit.leaves import Drawn, leaf_text, shard_of
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import LEAF, SHARD, TOUCHED
from tests.audit.looks import STAMP
from tests.components.postgresql import Database

__all__ = ["PLACES", "fill", "log_at"]

PLACES = ["sqlite", "postgresql"]


@contextmanager
def log_at(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """A new log in a file, or in a PostgreSQL database that is started for whoever asks."""
    if place == "sqlite":
        url = f"sqlite:///{tmp_path}/audit.db"
    else:
        database: Database = request.getfixturevalue("database")
        url = database.text_url()
    log = AuditLog(url)
    log.upgrade()
    yield log
    log.close()


def fill(log: AuditLog, events: Iterable[tuple[int, Event]]) -> None:
    """Put *events* in, each with its moment of sequencing in microseconds, in order."""
    leaves: list[dict[str, Any]] = []
    touched: list[dict[str, Any]] = []
    sizes: dict[int, int] = {}
    for sequenced, event in events:
        line = written(event, STAMP)
        drawn, shard = Drawn.of(Entry.read(line)), shard_of(sequenced)
        seq = sizes.get(shard, 0)
        sizes[shard] = seq + 1
        leaves.append({
            "shard": shard, "seq": seq, "id": bytes.fromhex(event.id), "sequenced": sequenced, "time": drawn.time,
            "action": drawn.action, "step": drawn.step, "status": drawn.status, "principal": drawn.principal,
            "tenant": drawn.tenant, "class": drawn.class_, "place": drawn.place, "correlation": drawn.correlation,
            "count": drawn.count, "hash": leaf_hash(leaf_text(sequenced, line)), "entry": line,
        })  # fmt: skip
        touched += [{"resource": each, "shard": shard, "seq": seq} for each in drawn.touched]
    with log.writing() as connection:
        connection.execute(
            sa.insert(SHARD), [{"shard": shard, "state": "open", "hold": None} for shard in sizes]
        )
        connection.execute(sa.insert(LEAF), leaves)
        if touched:
            connection.execute(sa.insert(TOUCHED), touched)
