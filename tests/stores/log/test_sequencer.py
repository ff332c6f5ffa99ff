"""What waits becomes leaves, in order, once, under one sequencer and signed."""

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.audit.entries import Entry, written
from lacre.audit.keeping import Heartbeat, Sequencing
from lacre.audit.leaves import Drawn, Position, leaf_text
from lacre.audit.notes import origin_of, read_checkpoint
from lacre.errors import ConfigurationError, EvidenceUnavailable, Tampered
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.stores.log.lease import Lease
from lacre.stores.log.loading import insert, leaf_row
from lacre.stores.log.log import AuditLog
from lacre.stores.log.outboxes import open_outboxes
from lacre.stores.log.reader import Filters, LogReader
from lacre.stores.log.remembered import Remembered
from lacre.stores.log.schema import CHECKPOINT, INBOX, LEAF, OUTBOX, SEQUENCER
from lacre.stores.log.sequencer import Sequencer
from lacre.stores.log.sink import OWN, LogSink
from lacre.stores.log.tree import Nodes
from tests.audit.looks import STAMP, searched
from tests.stores.log.filled import PLACES, log_at

pytestmark = pytest.mark.any_sqlalchemy

AUDIT = Identity.create("svc:audit")


class Clock:
    """Time that goes on when it is told to."""

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=PLACES)
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    with log_at(request.param, request, tmp_path) as log:
        yield log


@pytest.fixture
def sequencer(log: AuditLog, clock: Clock) -> Sequencer:
    return sequencer_of(log, clock)


def sequencer_of(log: AuditLog, clock: Clock, **options: object) -> Sequencer:
    return Sequencer(log, STAMP, signer=lambda: IdentitySigner(AUDIT), verifiers=[verifier_of(AUDIT.public)], clock=clock, **options)  # type: ignore[arg-type] # fmt: skip


def told(log: AuditLog) -> list[str]:
    """Return what the leaves say, in order: action and step, or the principal of a search."""
    return [
        f"{leaf.entry.action} {leaf.entry.members['step']}"
        if "step" in leaf.entry.members
        else leaf.entry.action if leaf.entry.action != "search" else leaf.entry.members["principal"]
        for leaf in LogReader(log).after()
    ]  # fmt: skip


def check_signed(log: AuditLog) -> None:
    """Assert that every leaf's hash is of what it holds, and the newest checkpoint of all of them."""
    reader = LogReader(log)
    with log.reading() as connection:
        rows = connection.execute(LEAF.select().order_by(LEAF.c.shard, LEAF.c.seq)).all()
        for shard in {row.shard for row in rows}:
            head = reader.checkpoint(shard)
            assert head is not None
            said = read_checkpoint(head.note, [verifier_of(AUDIT.public)])
            assert (said.origin, said.size) == (origin_of("shop", "test", shard), head.size)
            assert said.root == head.root == Nodes(connection, shard).root(head.size)
            assert head.size == sum(row.shard == shard for row in rows)
    assert all(row.hash == leaf_hash(leaf_text(row.sequenced, bytes(row.entry))) for row in rows)
    assert [row.sequenced for row in rows] == sorted(row.sequenced for row in rows)


def test_what_is_handed_over_becomes_leaves(
    log: AuditLog, sequencer: Sequencer, clock: Clock
) -> None:
    """Entries are leaves in the order they were handed over, after the log's own opening, and signed."""
    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched(principal=f"svc:{n}") for n in range(3)])
    sequenced = sequencer.turn()
    sink.close()
    sequencer.rest()

    assert sequenced == 4
    assert told(log) == [
        "sequencing opened", "sequencing began", "recording began", "svc:0", "svc:1", "svc:2",
        "recording ended", "sequencing rested",
    ]  # fmt: skip
    numbers = [leaf.entry.members.get("number") for leaf in LogReader(log).after()]
    assert numbers == [None, None, 1, 2, 3, 4, 5, None]
    with log.reading() as connection:
        assert connection.execute(INBOX.select()).all() == []
    check_signed(log)
    assert {(each.action, each.events) for each in LogReader(log).tallies()} == {
        ("search", 1), ("recording", 2), ("sequencing", 3),
    }  # fmt: skip


def test_a_batch_that_is_given_twice_counts_once(
    log: AuditLog, sequencer: Sequencer, clock: Clock
) -> None:
    """An entry counts by its id: given again before it was sequenced or after, it is one leaf."""
    events = [searched(principal="svc:once")]
    for _ in range(2):
        LogSink(log, STAMP).append(events)
    sequencer.turn()
    LogSink(log, STAMP).append(events)
    sequencer.turn()

    assert told(log).count("svc:once") == 1
    with log.reading() as connection:
        assert connection.execute(INBOX.select()).all() == []
    check_signed(log)


def test_one_of_two_sequences(log: AuditLog, clock: Clock) -> None:
    """A second sequencer does nothing while the first has the lease, and goes on at once when it rests."""
    first, second = sequencer_of(log, clock), sequencer_of(log, clock)
    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched(principal="svc:a")])
    assert first.turn() == 2
    assert second.turn() == 0
    assert not second.holds
    first.rest()
    sink.append([searched(principal="svc:b")])
    assert second.turn() == 1

    assert told(log)[-3:] == ["sequencing rested", "sequencing began", "svc:b"]
    check_signed(log)


def test_one_that_was_taken_over_writes_nothing(log: AuditLog, clock: Clock) -> None:
    """A sequencer that slept past its lease is fenced: it changes no row, and says what happened."""
    slow, quick = sequencer_of(log, clock), sequencer_of(log, clock)
    sink = LogSink(log, STAMP, clock=clock)
    slow.turn()
    clock.now += 16
    quick.turn()
    sink.append([searched(principal="svc:a")])
    before = told(log)
    with pytest.raises(EvidenceUnavailable, match="took over"):
        slow.turn()
    assert told(log) == before
    assert slow.turn() == 0

    assert quick.turn() == 2
    assert told(log)[2:] == ["sequencing took-over", "recording began", "svc:a"]
    check_signed(log)


def test_two_that_race_lose_and_repeat_nothing(log: AuditLog) -> None:
    """Two sequencers with leases that end at once take over from each other, and every entry is one leaf."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def sequencing() -> None:
        mine = Sequencer(log, STAMP, signer=lambda: IdentitySigner(AUDIT), verifiers=[verifier_of(AUDIT.public)], lease=0.0)  # fmt: skip
        while not stop.is_set():
            try:
                mine.turn()
            except EvidenceUnavailable:
                continue
            except BaseException as error:
                errors.append(error)
                raise

    threads = [threading.Thread(target=sequencing) for _ in range(2)]
    sink = LogSink(log, STAMP)
    for thread in threads:
        thread.start()
    for number in range(30):
        sink.append([searched(principal=f"svc:{number}")])
    stop.set()
    for thread in threads:
        thread.join()
    sequencer_of(log, Clock(time.time() + 1)).turn()

    assert errors == []
    assert [each for each in told(log) if each.startswith("svc:")] == [
        f"svc:{n}" for n in range(30)
    ]
    check_signed(log)


def test_a_month_is_a_tree_of_its_own(log: AuditLog, clock: Clock) -> None:
    """What is sequenced after the end of a month opens a tree that names the last root of the one before."""
    clock.now = 1_793_491_199.0  # 2026-10-31T23:59:59Z
    sequencer = sequencer_of(log, clock)
    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched(principal="svc:october")])
    sequencer.turn()
    clock.now += 2
    sink.append([searched(principal="svc:november")])
    sequencer.turn()

    reader = LogReader(log)
    last = reader.checkpoint(202610)
    opened = next(reader.after(Position(202611, -1)))
    assert last is not None
    assert [(each.shard, each.state) for each in reader.shards()] == [
        (202610, "closed"),
        (202611, "open"),
    ]
    assert (opened.seq, opened.entry.members["step"]) == (0, "opened")
    assert opened.entry.members["before"] == "2026-10"
    assert (opened.entry.members["size"], opened.entry.members["root"]) == (
        last.size,
        last.root.hex(),
    )
    assert told(log)[-2:] == ["sequencing opened", "svc:november"]
    check_signed(log)


def test_a_clock_that_was_set_back_stops_it(log: AuditLog, clock: Clock) -> None:
    """Five seconds are borne, more are refused with what to do; what waits is sequenced when time has caught up."""
    sequencer = sequencer_of(log, clock)
    sink = LogSink(log, STAMP, clock=clock)
    sequencer.turn()
    clock.now -= 4
    sink.append([searched(principal="svc:a")])
    assert sequencer.turn() == 2
    clock.now -= 100
    sink.append([searched(principal="svc:b")])
    with pytest.raises(ConfigurationError, match="does not go back") as caught:
        sequencer.turn()
    assert "set the clock right" in caught.value.hint
    clock.now += 105
    assert sequencer.turn() == 1
    sequencer.rest()
    clock.now -= 100
    with pytest.raises(ConfigurationError, match="does not go back"):
        sequencer_of(log, clock).turn()

    assert told(log)[-3:] == ["svc:a", "svc:b", "sequencing rested"]
    check_signed(log)


def test_an_idle_sequencer_says_that_it_is_there(log: AuditLog, clock: Clock) -> None:
    """Where nothing was sequenced for the time of a heartbeat there is one, and it is signed."""
    sequencer = sequencer_of(log, clock, heartbeat=60.0)
    for _ in range(5):
        sequencer.turn()
        clock.now += 30

    assert told(log) == ["sequencing opened", "sequencing began", "heartbeat", "heartbeat"]
    check_signed(log)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE lacre_leaf SET hash = zeroblob(32) WHERE seq = 1",
        "DELETE FROM lacre_leaf WHERE seq = 1",
        "DELETE FROM lacre_leaf WHERE seq >= 2",
        "DELETE FROM lacre_leaf",
        "UPDATE lacre_checkpoint SET note = 'x'",
    ],
)
def test_nothing_is_signed_over_another_tree(tmp_path: Path, clock: Clock, statement: str) -> None:
    """A sequencer that finds another tree than the one that was signed refuses to go on."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    LogSink(log, STAMP).append([searched()])
    sequencer_of(log, clock).rest()
    with log.writing() as connection:
        connection.exec_driver_sql(statement)
        heads = connection.execute(CHECKPOINT.select()).all()

    with pytest.raises(Tampered):
        sequencer_of(log, clock).turn()
    with log.reading() as connection:
        assert connection.execute(CHECKPOINT.select()).all() == heads
    log.close()


def test_what_is_no_entry_stays_where_it_is(
    log: AuditLog, sequencer: Sequencer, clock: Clock
) -> None:
    """Whoever may only hand over cannot stop the log: what lacre did not write is passed over and counted."""
    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched(principal="a\x00\ud800" + "x" * 5000)])
    good = written(searched(), STAMP)
    with log.writing() as connection:
        for number, entry in enumerate([b"{", good, good.replace(b'"count":1', b'"count":"1"')]):
            connection.execute(INBOX.insert().values(id=bytes([number]) * 16, entry=entry))
    sink.append([searched(principal="svc:after")])
    sequencer.turn()

    assert sequencer.passed == 3
    assert told(log)[-1] == "svc:after"
    assert [
        leaf.entry.members["principal"][:3]
        for leaf in LogReader(log).page(Filters(action="search"))
    ] == ["svc", "a\x00\ud800"]
    with log.reading() as connection:
        assert len(connection.execute(INBOX.select()).all()) == 3
    check_signed(log)


def test_outboxes_are_emptied_once(
    log: AuditLog, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in an application's database is one leaf, also where it could not be removed the first time."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    OUTBOX.create(engine)
    events = [searched(principal=f"svc:{n}") for n in range(3)]
    with engine.begin() as connection:
        for event in events:
            connection.execute(
                OUTBOX.insert().values(id=bytes.fromhex(event.id), entry=written(event, STAMP))
            )
    outboxes = open_outboxes({"main": "sqlite:///app.db", "gone": "sqlite:///no/app.db"}, tmp_path)
    sequencer = sequencer_of(log, clock, outboxes=outboxes)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER stuck BEFORE DELETE ON lacre_outbox BEGIN SELECT RAISE(FAIL, 'stuck'); END"
        )
    sequencer.turn()
    assert set(sequencer.away) == {"main", "gone"}
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER stuck")
    sequencer.turn()

    assert told(log)[2:] == ["svc:0", "svc:1", "svc:2"]
    assert sequencer.away == ["gone"]
    with engine.connect() as connection:
        assert connection.execute(OUTBOX.select()).all() == []
    check_signed(log)
    engine.dispose()
    for outbox in outboxes:
        outbox.close()


def test_who_signs_is_believed(log: AuditLog, clock: Clock) -> None:
    """An identity that no signer of lacre.toml is does not sequence, and does not keep others from it."""
    stranger = IdentitySigner(Identity.create("svc:audit"))
    with pytest.raises(ConfigurationError, match="signers"):
        Sequencer(
            log, STAMP, signer=lambda: stranger, verifiers=[verifier_of(AUDIT.public)], clock=clock
        ).turn()

    assert told(log) == []
    sequencer = sequencer_of(log, clock)
    sequencer.turn()
    assert sequencer.holds


def enter(log: AuditLog, *entries: bytes) -> None:
    """Put *entries* where they wait, with all rights on the inbox."""
    ids = [bytes.fromhex(json.loads(each)["id"]) for each in entries]
    with log.writing() as connection:
        rows = [{"id": i, "entry": e} for i, e in zip(ids, entries, strict=True)]
        connection.execute(INBOX.insert(), rows)


def test_thousands_of_what_is_no_entry_stop_nothing(
    log: AuditLog, sequencer: Sequencer, clock: Clock
) -> None:
    """However much of it waits, what was handed over after it is sequenced in the same turn; it stays, counted, and is read again by the next."""
    with log.writing() as connection:
        junk = [{"id": n.to_bytes(16, "big"), "entry": b"{"} for n in range(2500)]
        connection.execute(INBOX.insert(), junk)
    LogSink(log, STAMP, clock=clock).append([searched(principal="svc:after")])
    sequencer.turn()

    assert told(log)[-1] == "svc:after"
    assert sequencer.passed == 2500
    sequencer.rest()
    other = sequencer_of(log, clock)
    other.turn()
    assert other.passed == 2500
    with log.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(INBOX)) == 2500


def test_an_id_that_was_taken_does_not_make_evidence_go_away(
    log: AuditLog, sequencer: Sequencer
) -> None:
    """Of two entries that say different things under one id the second stays where it waits; the same once more goes."""
    first, second = (written(replace(searched(principal=who), id="0" * 31 + "1"), STAMP) for who in ("svc:a", "svc:b"))  # fmt: skip
    enter(log, first)
    sequencer.turn()
    enter(log, second)
    sequencer.turn()

    assert told(log)[-1] == "svc:a"
    assert sequencer.passed == 1
    with log.reading() as connection:
        assert bytes(connection.scalar(sa.select(INBOX.c.entry))) == second


def test_only_a_sequencer_says_that_it_rests(log: AuditLog, sequencer: Sequencer) -> None:
    """A rest that somebody else handed over is none: it would excuse the silence after it."""
    rested = Sequencing(step="rested", epoch=1, since="", time=1.0, **OWN)
    sequencer.turn()
    enter(log, written(rested, STAMP))
    sequencer.turn()

    assert "sequencing rested" not in told(log)
    assert sequencer.passed == 1


def test_a_log_that_was_set_back_is_not_gone_on_with(
    log: AuditLog, sequencer: Sequencer, clock: Clock
) -> None:
    """Leaves and checkpoints that were cut off are missed by who signed them, though the rest agrees with itself."""
    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched()])
    sequencer.turn()
    with log.reading() as connection:
        newest = connection.scalar(sa.select(sa.func.max(LEAF.c.seq)))
    sink.append([searched(principal="svc:gone")])
    sequencer.turn()
    with log.writing() as connection:
        connection.execute(sa.delete(LEAF).where(LEAF.c.seq > newest))
        connection.execute(sa.delete(CHECKPOINT).where(CHECKPOINT.c.size > newest + 1))
        connection.execute(sa.update(SEQUENCER).values(epoch=SEQUENCER.c.epoch + 1, holder=""))
    sink.append([searched()])
    with pytest.raises(EvidenceUnavailable):
        sequencer.turn()

    for _ in range(2):
        with pytest.raises(Tampered):
            sequencer.turn()


@pytest.mark.parametrize("known", [True, False], ids=["by who appended", "by who begins"])
@pytest.mark.parametrize("forged", ["rested", "heartbeat", "search"])
def test_a_leaf_that_somebody_inserted_is_not_signed(
    tmp_path: Path, clock: Clock, forged: str, known: bool
) -> None:
    """Who appended knows what was appended; who begins takes unsigned leaves as it takes what waits, and what only a sequencer says from nobody."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    running = sequencer_of(log, clock)
    LogSink(log, STAMP, clock=clock).append([searched()])
    running.turn()
    event = {
        "rested": Sequencing(step="rested", epoch=1, since="", time=clock.now, **OWN),
        "heartbeat": Heartbeat(time=clock.now, **OWN),
        "search": searched(principal="svc:framed"),
    }[forged]
    with log.reading() as connection:
        newest = connection.execute(LEAF.select().order_by(LEAF.c.seq.desc())).first()
        head = connection.execute(CHECKPOINT.select().order_by(CHECKPOINT.c.size.desc())).first()
    assert newest is not None
    line = written(event, STAMP)
    leaf = leaf_row(newest.shard, newest.seq + 1, bytes.fromhex(event.id), newest.sequenced, Drawn.of(Entry.read(line)), leaf_hash(leaf_text(newest.sequenced, line)), line)  # fmt: skip
    with log.writing() as connection:
        insert(connection, LEAF, [leaf])
        connection.execute(sa.update(SEQUENCER).values(epoch=SEQUENCER.c.epoch + 1, holder=""))
    sequencer = running if known else sequencer_of(log, clock)
    if known:
        clock.now += 10  # its lease is to be renewed
        with pytest.raises(EvidenceUnavailable):
            sequencer.turn()

    if forged == "search":
        # An entry that anybody may hand over: no more than in the inbox, and no less.
        sequencer.turn()
        assert told(log)[-2:] == ["svc:framed", "sequencing took-over"]
        check_signed(log)
    else:
        for _ in range(2):
            with pytest.raises(Tampered):
                sequencer.turn()
        with log.reading() as connection:
            assert connection.execute(CHECKPOINT.select().order_by(CHECKPOINT.c.size.desc())).first() == head  # fmt: skip
    log.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE lacre_leaf SET principal = 'svc:y' WHERE principal = 'svc:x'",
        "UPDATE lacre_leaf SET hash = zeroblob(32) WHERE principal = 'svc:x'",
        "UPDATE lacre_leaf SET entry = CAST('x' AS BLOB) WHERE principal = 'svc:x'",
    ],
)
def test_what_was_left_unsigned_is_taken_as_it_was_left(
    tmp_path: Path, clock: Clock, change: str
) -> None:
    """Leaves of one that was killed before it signed them are signed by the next, unless somebody changed them."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    killed = sequencer_of(log, clock)
    killed.turn()
    LogSink(log, STAMP, clock=clock).append([searched()])
    signing = pytest.MonkeyPatch()
    signing.setattr(Sequencer, "_sign", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        killed.turn()
    signing.undo()
    clock.now += 20
    shutil.copy(tmp_path / "audit.db", tmp_path / "left.db")
    with log.writing() as connection:
        assert connection.exec_driver_sql(change).rowcount == 1
    with pytest.raises(Tampered):
        sequencer_of(log, clock).turn()
    log.close()
    shutil.copy(tmp_path / "left.db", tmp_path / "audit.db")
    sequencer_of(log, clock).turn()

    assert told(log)[-2:] == ["svc:x", "sequencing took-over"]
    check_signed(log)
    log.close()


def test_a_sequencer_that_starts_knows_what_was_signed_last(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A log that was set back to when it rested is not gone on with where a file says that it was longer; without one, or with one that cannot be read, it is, and that is said."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    path = tmp_path / "signed"

    def kept() -> Remembered:
        return Remembered(path, "lacre-audit/shop/test/")

    sink = LogSink(log, STAMP, clock=clock)
    sink.append([searched()])
    sequencer_of(log, clock, remembered=kept()).rest()
    log.close()
    shutil.copy(tmp_path / "audit.db", tmp_path / "before.db")
    sink.append([searched(principal="svc:gone")])
    sequencer_of(log, clock, remembered=kept()).rest()
    sequencer_of(log, clock, remembered=kept()).rest()  # nothing is wrong with what goes on
    note = path.read_text()
    log.close()
    shutil.copy(tmp_path / "before.db", tmp_path / "audit.db")
    with pytest.raises(Tampered):
        sequencer_of(log, clock, remembered=kept()).rest()
    assert path.read_text() == note
    assert told(log)[-1] == "sequencing rested"
    assert caplog.messages == []
    with log.writing() as connection:
        for table in (LEAF, CHECKPOINT):
            connection.execute(sa.delete(table))
    with pytest.raises(Tampered):
        sequencer_of(log, clock, remembered=kept()).rest()
    log.close()
    shutil.copy(tmp_path / "before.db", tmp_path / "audit.db")
    path.write_text(note.replace("shop", "mart"))
    sequencer_of(log, clock, remembered=kept()).rest()

    assert ["cannot be read" in each for each in caplog.messages] == [True]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.glob("signed*")] == ["signed"]
    nowhere = Remembered(tmp_path / "no" / "signed", "lacre-audit/shop/test/")
    sequencer_of(log, clock, remembered=nowhere).rest()
    assert "cannot be written" in caplog.messages[-1]
    check_signed(log)
    log.close()


def test_an_epoch_that_was_not_committed_is_nobodys(log: AuditLog) -> None:
    """Who believes to hold the lease by a COMMIT that failed does not hold what another took since under the same epoch."""
    one, other = Lease(), Lease()
    with log.writing() as connection:
        assert one.take(connection, 10)
        connection.rollback()
    with log.writing() as connection:
        assert other.take(connection, 20)

    assert one.epoch == other.epoch
    with pytest.raises(EvidenceUnavailable), log.writing() as connection:
        one.hold(connection, 30)
    with log.writing() as connection:
        other.hold(connection, 30)


def test_names_that_no_index_would_take_are_counted_all_the_same(
    log: AuditLog, sequencer: Sequencer
) -> None:
    """Long names of letters of four bytes, which do not compress, stop nothing."""
    drawn = random.Random(6)

    def name(length: int) -> str:
        return "".join(chr(drawn.randrange(0x20000, 0x2A6D0)) for _ in range(length))

    members = json.loads(written(searched(), STAMP))
    members |= {"principal": name(256), "purpose": name(256), "table": name(256), "class": name(64)}
    enter(log, json.dumps(members, sort_keys=True, separators=(",", ":")).encode())

    assert sequencer.turn() == 1


def test_what_waits_is_read_within_bounds(
    log: AuditLog, sequencer: Sequencer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long entries are, so many bytes are held at once; one that is longer than that is none, and nothing changes places."""
    monkeypatch.setattr("lacre.stores.log.sequencer._ROOM", 4000)
    names = [f"svc:{n}" + "x" * (1500 if n % 2 else 10) for n in range(9)]
    sink = LogSink(log, STAMP, clock=clock)
    for name in [*names[:4], "svc:long" + "y" * 5000, *names[4:]]:
        sink.append([searched(principal=name)])
    sequencer.turn()

    assert [each for each in told(log) if each.startswith("svc:")] == names
    assert sequencer.passed == 1


def test_what_waits_in_an_outbox_is_read_within_bounds(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an outbox so many bytes are held at once, as of the inbox; what is longer stays there, counted, and the next turn takes what came after."""
    monkeypatch.setattr("lacre.stores.log.sequencer._ROOM", 4000)
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    OUTBOX.create(engine)
    names = [f"svc:{n}" + "x" * 1500 for n in range(4)]
    with engine.begin() as connection:
        for name in [*names[:2], "svc:long" + "y" * 5000, *names[2:]]:
            event = searched(principal=name)
            row = {"id": bytes.fromhex(event.id), "entry": written(event, STAMP)}
            connection.execute(OUTBOX.insert().values(row))
    (outbox,) = open_outboxes({"main": "sqlite:///app.db"}, tmp_path)
    held = len(outbox.waiting(10, room=4000)[0])
    sequencer = sequencer_of(log, clock, outboxes=[outbox])
    for _ in range(3):
        sequencer.turn()

    assert held == 2
    assert [each for each in told(log) if each.startswith("svc:")] == names
    assert sequencer.passed == 1
    engine.dispose()
    sequencer.close()
    log.close()
