# SPDX-License-Identifier: Apache-2.0
"""
What somebody with all rights on the log's database tries, and somebody who stole its key as well.

`ATTACKS` are tried by `test_attackers`, each on a copy of one log, and what finds them is the table in
``docs/threat-model.md``. ``python -m tests.stores.log.attacks`` prints that table anew.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.audit.entries import Entry, written
from lacre.audit.events import Looked
from lacre.audit.keeping import Sequencing
from lacre.audit.leaves import Drawn, leaf_text, shard_name
from lacre.audit.notes import Checkpoint, origin_of, sign_checkpoint
from lacre.audit.summing import tally_key
from lacre.audit.verdict import Verdict
from lacre.audit.verified import Verified
from lacre.errors import Tampered
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner
from lacre.stores.log import loading
from lacre.stores.log.remembered import Remembered
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, TALLY, TILE, TOUCHED
from lacre.stores.log.sink import OWN
from lacre.stores.log.tree import StoredTree
from tests.audit.looks import STAMP, example
from tests.stores.log.stage import (
    AUDIT,
    FIRST,
    SECOND,
    STRANGER,
    Stage,
    event,
    opened,
    sequencer_of,
)

DAY = 86_400.0
NEW = 60  # a leaf of the second month that came after the last verification, and was anchored


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """*title* says what is done; *late* how long after it the log is verified, in seconds."""

    title: str
    do: Callable[[Stage], None]
    late: float = 1.0
    key: bool = False


@dataclass(frozen=True, slots=True)
class Base:
    """A log as it was before, and what an auditor kept of it on the way."""

    stage: Stage
    known: Verified


def base(directory: Path) -> Base:
    """Return an honest log: two months, a hold, openings, a rest, and anchors outside that lag behind."""
    stage = opened(directory)
    stage.burst(300, principal="user:thief")
    stage.retain("held", FIRST, 0, "")
    stage.idle(3)
    stage.look(20)
    stage.opening("one")
    stage.closing("one")
    stage.anchor()
    stage.sink.close()
    stage.sequencer.rest()
    keep(stage, "resting")
    stage.clock.now += 600
    stage.look(20)
    keep(stage, "running")
    stage.idle(3)
    known = stage.verify().verified
    assert known is not None
    assert known.frontier.size < NEW
    stage.look(20)
    stage.anchor()
    stage.look(20)
    stage.enter(replace(example(Looked), time=stage.clock.now))
    return Base(stage, known)


def keep(stage: Stage, name: str) -> None:
    """Keep the database as it is now, as a backup would."""
    stage.log.close()  # whoever closes last puts all into one file
    shutil.copy(stage.path, stage.path.parent / f"{name}.db")


def replayed(name: str) -> Callable[[Stage], None]:
    """Put back a state that was kept, and let the sequencer start again and go on."""

    def do(stage: Stage) -> None:
        stage.log.close()
        shutil.copy(stage.path.parent / f"{name}.db", stage.path)
        stage.sequencer = sequencer_of(stage.log, stage.clock)
        stage.look(3)

    return do


def sql(*statements: str) -> Callable[[Stage], None]:
    """Run SQL, ``:second`` being the shard that is open, ``:first`` the one before, ``:new`` and ``:next`` two new leaves of it."""
    shards = {":first": str(FIRST), ":second": str(SECOND), ":new": str(NEW), ":next": str(NEW + 1)}

    def do(stage: Stage) -> None:
        for each in statements:
            text = each
            for name, value in shards.items():
                text = text.replace(name, value)
            stage.run(text)

    return do


def replayed_beside(name: str) -> Callable[[Stage], None]:
    """The same, where who sequences keeps a file of what was signed last."""

    def do(stage: Stage) -> None:
        kept = Remembered(stage.path.parent / "signed", "lacre-audit/shop/test/")
        stage.clock.now += 20
        stage.sequencer = sequencer_of(stage.log, stage.clock, remembered=kept)
        stage.look(1)
        stage.log.close()
        shutil.copy(stage.path.parent / f"{name}.db", stage.path)
        stage.sequencer = sequencer_of(stage.log, stage.clock, remembered=kept)
        with pytest.raises(Tampered):
            stage.look(3)
        stage.clock.now += 300

    return do


Row = dict[str, Any]  # shard, sequenced, members


def rows(stage: Stage) -> list[Row]:
    """Return what the leaves say, in order."""
    with stage.log.reading() as connection:
        found = connection.execute(
            sa.select(LEAF.c.shard, LEAF.c.sequenced, LEAF.c.entry).order_by(
                LEAF.c.shard, LEAF.c.seq
            )
        ).all()
    return [
        {"shard": shard, "sequenced": sequenced, "members": json.loads(entry)}
        for shard, sequenced, entry in found
    ]


def line_of(members: Row) -> bytes:
    """Return an entry as lacre writes it."""
    return json.dumps(members, sort_keys=True, separators=(",", ":")).encode()


def leaf_of(shard: int, seq: int, sequenced: int, members: Row) -> Row:
    """Return the row of a leaf, every column as it should be."""
    line = line_of(members)
    drawn = Drawn.of(Entry.read(line))
    return {
        "shard": shard, "seq": seq, "id": bytes.fromhex(members["id"]), "sequenced": sequenced, "time": drawn.time,
        "action": drawn.action, "step": drawn.step, "status": str(drawn.status), "principal": drawn.principal,
        "tenant": drawn.tenant, "class": drawn.class_, "place": drawn.place, "correlation": drawn.correlation,
        "count": drawn.count, "hash": leaf_hash(leaf_text(sequenced, line)), "entry": line,
    }  # fmt: skip


def rewritten(
    change: Callable[[list[Row]], list[Row]], *, signer: Identity
) -> Callable[[Stage], None]:
    """
    Make the whole log anew, as *change* has it, and sign it: leaves, columns, hashes, tiles, the
    numbers of writers, the chain of shards, checkpoints, sums. All that the database holds is consistent.
    """

    def do(stage: Stage) -> None:
        wanted = change(rows(stage))
        numbers: dict[str, int] = {}
        for each in wanted:
            members = each["members"]
            if "writer" in members:
                numbers[members["writer"]] = members["number"] = (
                    numbers.get(members["writer"], 0) + 1
                )
                if members["action"] == "recording":
                    members["events"] = members["number"]
        before: tuple[str, int, str] = ("", 0, "")
        with stage.log.writing() as connection:
            for table in (LEAF, TILE, CHECKPOINT):
                connection.execute(sa.delete(table))
            for shard in sorted({each["shard"] for each in wanted}):
                mine = [each for each in wanted if each["shard"] == shard]
                mine[0]["members"] |= dict(zip(("before", "size", "root"), before, strict=True))
                tree = StoredTree.load(connection, shard)
                leaves = [
                    leaf_of(shard, seq, each["sequenced"], each["members"])
                    for seq, each in enumerate(mine)
                ]
                connection.execute(sa.insert(LEAF), leaves)
                tree.extend(connection, [each["hash"] for each in leaves])
                sign(connection, shard, tree.size, tree.root(), signer)
                before = (shard_name(shard), tree.size, tree.root().hex())
        summed_anew(stage)

    return do


def summed_anew(stage: Stage) -> None:
    """Make the sums, and whom entries are about, of the leaves that are there."""
    with stage.log.writing() as connection:
        for table in (TALLY, TOUCHED):
            connection.execute(sa.delete(table))
        counts: dict[loading.Row, list[int]] = {}
        touched: list[loading.Row] = []
        for shard, seq, line in connection.execute(sa.select(LEAF.c.shard, LEAF.c.seq, LEAF.c.entry)):  # fmt: skip
            drawn = Drawn.of(Entry.read(line))
            sums = counts.setdefault(tally_key(drawn), [0, 0])
            sums[0] += 1
            sums[1] += drawn.count
            touched += loading.touched_rows(shard, seq, drawn)
        loading.tally(connection, counts)
        loading.insert(connection, TOUCHED, touched)


def sign(connection: sa.Connection, shard: int, size: int, root: bytes, signer: Identity) -> None:
    """Put a checkpoint there."""
    checkpoint = Checkpoint(origin=origin_of("shop", "test", shard), size=size, root=root)
    note = sign_checkpoint(checkpoint, IdentitySigner(signer))
    connection.execute(
        sa.insert(CHECKPOINT).values(shard=shard, size=size, time=0, root=root, note=note)
    )


def edited(found: list[Row]) -> list[Row]:
    """The thief's looks were somebody else's."""
    for each in found:
        if each["members"]["principal"] == "user:thief":
            each["members"]["principal"] = "svc:x"
    return found


def deleted(found: list[Row]) -> list[Row]:
    """The thief's looks did not happen."""
    return [each for each in found if each["members"]["principal"] != "user:thief"]


def edited_lately(found: list[Row]) -> list[Row]:
    """The last three entries name somebody else."""
    for each in found[-3:]:
        each["members"]["principal"] = "svc:other"
    return found


def entry_and_columns(stage: Stage) -> None:
    """Edit an entry, its columns and its hash, so that they agree."""
    with stage.log.writing() as connection:
        row = connection.execute(
            sa.select(LEAF).where(LEAF.c.shard == SECOND, LEAF.c.seq == NEW)
        ).one()
        members = json.loads(row.entry) | {"principal": "svc:other"}
        leaf = leaf_of(SECOND, NEW, row.sequenced, members)
        connection.execute(
            sa.update(LEAF).where(LEAF.c.shard == SECOND, LEAF.c.seq == NEW).values(**leaf)
        )


def entry_and_sums(stage: Stage) -> None:
    """The same, and the sums are made anew of what is there then."""
    entry_and_columns(stage)
    summed_anew(stage)


def removed_and_closed_up(stage: Stage) -> None:
    """Delete a leaf, and number those after it anew."""
    stage.run(
        f"DELETE FROM lacre_leaf WHERE shard = {SECOND} AND seq = {NEW}",
        f"UPDATE lacre_leaf SET seq = -seq WHERE shard = {SECOND} AND seq > {NEW}",
        f"UPDATE lacre_leaf SET seq = -seq - 1 WHERE shard = {SECOND} AND seq < 0",
    )


def inserted_between(stage: Stage) -> None:
    """Make room in the middle, and put a leaf of one's own there."""
    with stage.log.writing() as connection:
        connection.exec_driver_sql(
            f"UPDATE lacre_leaf SET seq = -seq WHERE shard = {SECOND} AND seq > {NEW}"
        )
        connection.exec_driver_sql(
            f"UPDATE lacre_leaf SET seq = -seq + 1 WHERE shard = {SECOND} AND seq < 0"
        )
        moment = connection.scalar(
            sa.select(LEAF.c.sequenced).where(LEAF.c.shard == SECOND, LEAF.c.seq == NEW)
        )
        members = json.loads(written(event("svc:framed", moment / 1_000_000), STAMP))
        connection.execute(sa.insert(LEAF).values(**leaf_of(SECOND, NEW + 1, moment, members)))


def moment_moved(stage: Stage) -> None:
    """Let something have been sequenced ten minutes before, hash included."""
    with stage.log.writing() as connection:
        row = connection.execute(
            sa.select(LEAF).where(LEAF.c.shard == SECOND, LEAF.c.seq == NEW)
        ).one()
        leaf = leaf_of(SECOND, NEW, row.sequenced - 600_000_000, json.loads(row.entry))
        connection.execute(
            sa.update(LEAF).where(LEAF.c.shard == SECOND, LEAF.c.seq == NEW).values(**leaf)
        )


def unknown_line(stage: Stage) -> None:
    """Put something that is no entry in the place of one, with its hash."""
    with stage.log.writing() as connection:
        place = sa.and_(LEAF.c.shard == SECOND, LEAF.c.seq == NEW)
        row = connection.execute(sa.select(LEAF).where(place)).one()
        line = b'{"action":"nothing"}'
        changed = {"entry": line, "hash": leaf_hash(leaf_text(row.sequenced, line))}
        connection.execute(sa.update(LEAF).where(place).values(**changed))


def purged_alone(stage: Stage) -> None:
    """Remove a month, and call it purged."""
    stage.run(
        f"DELETE FROM lacre_leaf WHERE shard = {FIRST}",
        f"UPDATE lacre_shard SET state = 'purged' WHERE shard = {FIRST}",
    )


def purged_by_a_stranger(stage: Stage) -> None:
    """The same, with an entry that says so, signed by somebody who is no operator."""
    with stage.log.reading() as connection:
        row = connection.execute(
            sa.select(CHECKPOINT)
            .where(CHECKPOINT.c.shard == FIRST)
            .order_by(CHECKPOINT.c.size.desc())
        ).first()
    assert row is not None
    stage.retain("purged", FIRST, row.size, row.root.hex(), signer=STRANGER)
    purged_alone(stage)


def stolen_before_sequencing(stage: Stage) -> None:
    """Delete what waits in the inbox; the process goes on recording."""
    stage.look(1)
    for _ in range(3):
        stage.sink.append([event("user:thief", stage.clock.now)])
    stage.run("DELETE FROM lacre_inbox")
    stage.look(1)


def stolen_before_the_end(stage: Stage) -> None:
    """Delete what waits in the inbox, of a process that was killed and says nothing more."""
    stage.look(1)
    for _ in range(3):
        stage.sink.append([event("user:thief", stage.clock.now)])
    stage.run("DELETE FROM lacre_inbox")
    stage.sequencer.rest()


def framed(stage: Stage) -> None:
    """Put an entry of one's own into the inbox, without a writer, as commands do."""
    stage.enter(event("svc:framed", stage.clock.now))


def framed_in_a_name(stage: Stage) -> None:
    """The same with the name and the next number of a process that is recording."""
    stage.look(1)
    last = rows(stage)[-1]["members"]
    forged = event("svc:framed", stage.clock.now)
    with stage.log.writing() as connection:
        entry = written(forged, STAMP, writer=last["writer"], number=last["number"] + 1)
        connection.execute(sa.insert(INBOX).values(id=bytes.fromhex(forged.id), entry=entry))
    stage.look(1)


def stopped(stage: Stage) -> None:
    """Keep the sequencer from its work for five minutes."""
    stage.clock.now += 300
    stage.look(1)


def rest_said(stage: Stage) -> None:
    """The same, and before it an entry that says that the sequencer rests."""
    stage.enter(Sequencing(step="rested", epoch=1, since="", time=stage.clock.now, **OWN))
    stopped(stage)


def rest_inserted(stage: Stage) -> None:
    """The same, and before it a leaf that says so, with the lease of whoever sequenced taken away."""
    with stage.log.writing() as connection:
        seq, moment = connection.execute(
            sa.select(LEAF.c.seq, LEAF.c.sequenced)
            .where(LEAF.c.shard == SECOND)
            .order_by(LEAF.c.seq.desc())
            .limit(1)
        ).one()
        rest = Sequencing(step="rested", epoch=1, since="", time=stage.clock.now, **OWN)
        members = json.loads(written(rest, STAMP))
        connection.execute(sa.insert(LEAF).values(**leaf_of(SECOND, seq + 1, moment, members)))
        connection.exec_driver_sql("UPDATE lacre_sequencer SET epoch = epoch + 1, holder = ''")
    stage.sequencer = sequencer_of(stage.log, stage.clock)
    with pytest.raises(Tampered):
        stopped(stage)


def emptied(stage: Stage) -> None:
    """Empty every table."""
    stage.run(
        *(
            f"DELETE FROM {table}"
            for table in ("lacre_leaf", "lacre_checkpoint", "lacre_shard", "lacre_tile")
        )
    )


def anchor_too(do: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """The same, by somebody who writes the anchor as well."""

    def both(stage: Stage) -> None:
        do(stage)
        path = stage.path.parent / "outside.jsonl"
        with stage.log.reading() as connection:
            found = connection.execute(sa.select(CHECKPOINT)).all()
        path.unlink()
        for row in found:
            stage.outside.put(
                Checkpoint(
                    origin=origin_of("shop", "test", row.shard), size=row.size, root=row.root
                ),
                row.note,
            )

    return both


def unrecorded(change: Callable[[list[Row]], list[Row]]) -> Callable[[list[Row]], list[Row]]:
    """The same, and no entry says that anything was anchored."""
    return lambda found: [each for each in change(found) if each["members"]["action"] != "anchor"]


ATTACKS = (
    Attack(title="edits an entry", do=sql("UPDATE lacre_leaf SET entry = CAST(replace(entry, 'svc:x', 'svc:y') AS BLOB) WHERE shard = :second AND seq = :new")),
    Attack(title="edits an entry, its columns and its hash, so that they agree", do=entry_and_columns),
    Attack(title="the same, and makes the sums by the hour anew, so that they agree too", do=entry_and_sums),
    Attack(title="edits a column beside an entry, which queries read", do=sql("UPDATE lacre_leaf SET principal = 'svc:y' WHERE shard = :second AND seq = :new")),
    Attack(title="edits an entry that was verified before", do=sql("UPDATE lacre_leaf SET entry = CAST(replace(entry, 'user:thief', 'user:other') AS BLOB) WHERE shard = :first AND seq = 9")),
    Attack(title="deletes an entry", do=sql("DELETE FROM lacre_leaf WHERE shard = :second AND seq = :new")),
    Attack(title="deletes an entry and closes the numbers up", do=removed_and_closed_up),
    Attack(title="exchanges two entries", do=sql("UPDATE lacre_leaf SET seq = -8 WHERE shard = :second AND seq = :new", "UPDATE lacre_leaf SET seq = :new WHERE shard = :second AND seq = :next", "UPDATE lacre_leaf SET seq = :next WHERE shard = :second AND seq = -8")),
    Attack(title="inserts an entry between two others", do=inserted_between),
    Attack(title="moves the moment of an entry back, its hash with it", do=moment_moved),
    Attack(title="puts something that is no entry in the place of one", do=unknown_line),
    Attack(title="writes text where bytes belong, and numbers that are none", do=sql("UPDATE lacre_leaf SET entry = 'x', seq = 'y' WHERE shard = :second AND seq = :new", "UPDATE lacre_leaf SET time = 'z' WHERE shard = :second AND seq = :next")),
    Attack(title="cuts off the newest entries", do=sql("DELETE FROM lacre_leaf WHERE shard = :second AND seq > :new")),
    Attack(title="cuts off the newest entries and their checkpoints", do=sql("DELETE FROM lacre_leaf WHERE shard = :second AND seq > :new", "DELETE FROM lacre_checkpoint WHERE shard = :second AND size > :new + 1", "DELETE FROM lacre_tile WHERE shard = :second"), late=600),
    Attack(title="puts back the database of minutes before, while it was written to", do=replayed("running")),
    Attack(title="puts back the database as it was when everything rested", do=replayed("resting")),
    Attack(title="the same, where the sequencer has a file of what it signed last, so that it stops: within minutes", do=replayed_beside("resting")),
    Attack(title="replaces the tree's tiles", do=sql("UPDATE lacre_tile SET hashes = zeroblob(length(hashes))")),
    Attack(title="edits a sum by the hour, which pages and reports read", do=sql("UPDATE lacre_tally SET events = events + 1 WHERE principal = 'user:thief'")),
    Attack(title="gives one principal's sum to another", do=sql("UPDATE lacre_tally SET principal = 'user:other' WHERE principal = 'user:thief'")),
    Attack(title="adds a sum of what never happened", do=sql("INSERT INTO lacre_tally SELECT hour, 'svc:framed', action, status, class, place, purpose, events, count FROM lacre_tally WHERE principal = 'user:thief'")),
    Attack(title="deletes whom entries are about, which searches read", do=sql("DELETE FROM lacre_touched WHERE shard = :second")),
    Attack(title="lets entries be about another row", do=sql("UPDATE lacre_touched SET resource = resource || 'x' WHERE resource = '1'")),
    Attack(title="replaces a checkpoint by one of their own key", do=lambda stage: resigned(stage, STRANGER)),
    Attack(title="writes the whole log anew, and signs it with a key of their own", do=rewritten(deleted, signer=STRANGER)),
    Attack(title="removes a month altogether", do=sql("DELETE FROM lacre_leaf WHERE shard = :first", "DELETE FROM lacre_checkpoint WHERE shard = :first", "DELETE FROM lacre_shard WHERE shard = :first", "DELETE FROM lacre_tile WHERE shard = :first")),
    Attack(title="removes a month's entries and calls it purged", do=purged_alone),
    Attack(title="the same, with an entry that says so, which no operator signed", do=purged_by_a_stranger),
    Attack(title="lifts a legal hold", do=sql("UPDATE lacre_shard SET hold = NULL")),
    Attack(title="empties every table", do=emptied),
    Attack(title="keeps the sequencer from running for five minutes", do=stopped),
    Attack(title="the same, with an entry that says that it rests", do=rest_said),
    Attack(title="the same, and puts a leaf into the log that says that it rests", do=rest_inserted),
    Attack(title="deletes entries that wait to be sequenced, of a process that goes on", do=stolen_before_sequencing),
    Attack(title="deletes entries that wait to be sequenced, of a process that was killed: within a day", do=stolen_before_the_end),
    Attack(title="the same: a day later", do=stolen_before_the_end, late=DAY + 60),
    Attack(title="has an entry of their own sequenced, as if a command had made it", do=framed),
    Attack(title="has an entry of their own sequenced, in the name of a process that goes on", do=framed_in_a_name),
    Attack(title="edits entries, makes everything anew and signs it", do=rewritten(edited, signer=AUDIT), key=True),
    Attack(title="deletes entries, makes everything anew and signs it", do=rewritten(deleted, signer=AUDIT), key=True),
    Attack(title="the same, and deletes what says that it was anchored", do=rewritten(unrecorded(deleted), signer=AUDIT), key=True),
    Attack(title="edits what came after the last anchor, and signs it", do=rewritten(edited_lately, signer=AUDIT), key=True),
    Attack(title="deletes entries, makes everything anew and signs it, and writes the anchor anew as well", do=anchor_too(rewritten(unrecorded(deleted), signer=AUDIT)), key=True),
)  # fmt: skip


def resigned(stage: Stage, signer: Identity) -> None:
    """Sign the newest checkpoint with another key, under the same name."""
    with stage.log.writing() as connection:
        row = connection.execute(
            sa.select(CHECKPOINT).order_by(CHECKPOINT.c.shard.desc(), CHECKPOINT.c.size.desc())
        ).first()
        assert row is not None
        connection.execute(
            sa.delete(CHECKPOINT).where(
                CHECKPOINT.c.shard == row.shard, CHECKPOINT.c.size == row.size
            )
        )
        sign(connection, row.shard, row.size, row.root, signer)


def tried(attack: Attack, of: Base, directory: Path) -> str:
    """Try *attack* on a copy of the log; return its row of the table."""
    stage = of.stage.copy(directory)
    try:
        attack.do(stage)
        found = (
            stage.verify(later=attack.late),
            stage.verify(later=attack.late, known=of.known),
            stage.verify(later=attack.late, anchored=True),
        )
    finally:
        stage.close()
    alone = said(found[0])
    further = [each for each in said(found[2]) if each not in alone]
    cells = (
        attack.title,
        shown(alone),
        shown(said(found[1])),
        shown(further) if further else "nothing more" if alone else "**nothing**",
    )
    return f"| {' | '.join(cells)} |"


def said(verdict: Verdict) -> list[str]:
    """Return the codes of a verdict, each once."""
    return sorted({each.code for each in verdict.problems})


def shown(found: Iterable[str]) -> str:
    return ", ".join(f"`{each}`" for each in found) or "**nothing**"


HEAD = ("| what is done | verification of the whole log finds | verification since the last one, with the auditor's file, finds | an anchor outside adds |", "|---|---|---|---|")  # fmt: skip


def table(of: Base, directory: Path, *, key: bool) -> list[str]:
    """Return the lines of the table of those without the log's key, or with it."""
    lines = list(HEAD)
    for number, attack in enumerate(ATTACKS):
        if attack.key == key:
            place = directory / str(number)
            place.mkdir()
            lines.append(tried(attack, of, place))
    return lines


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        made = base(Path(name))
        for key in (False, True):
            print("\n".join(table(made, Path(name), key=key)))
            print()
