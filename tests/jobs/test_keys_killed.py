# SPDX-License-Identifier: Apache-2.0
"""Rotations of data and branch keys, killed between any two statements, with a writer at work: every value opens."""

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
import typer

from lacre import Lacre
from lacre.cli.keys.making import Rotated, rotate
from lacre.cli.keys.rewrapping import rewrap
from lacre.cli.operator import as_operator
from lacre.errors import KeyStoreUnreachable
from lacre.keys import below
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from tests.components.postgresql import Database
from tests.jobs.test_erasure_killed import dying, forked, survived
from tests.jobs.test_sealing_services import on_postgresql

_PAGE = 25
_SUBJECTS = 60  # before the first rotation: several pages


def rotated(config: Path, kind: Rotated) -> None:
    """`lacre keys rotate`."""
    rotate(class_="pii", kind=kind, tenant=None, anew=False, config=config, passphrase_file=None)


def resumed(config: Path) -> None:
    """`lacre keys rewrap --subjects`: what an interrupted rotation left."""
    with pytest.raises(typer.Exit) as ended:
        rewrap(
            class_=None, tenant=None, from_=None, anew=False, subjects=True, dry_run=False,
            as_json=False, config=config, passphrase_file=None,
        )  # fmt: skip
    assert ended.value.exit_code == 0


def statements(work: Callable[[], None]) -> int:
    """Run *work* to its end; return how many places to die it has."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    for name in ("before_cursor_execute", "commit"):
        sa.event.listen(sa.Engine, name, count)
    try:
        work()
    finally:
        for name in ("before_cursor_execute", "commit"):
            sa.event.remove(sa.Engine, name, count)
    return counted


@contextmanager
def writer(config: Path, log: Path, seed: int) -> Iterator[None]:
    """Somebody who encrypts all the time, for new subjects and old ones and for none, and reads back what was."""
    stop = log.with_suffix(".stop")

    def write() -> None:
        chance, written, subjects = random.Random(seed), [], 0
        with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"), log.open("a") as file:  # fmt: skip
            own = lacre.field("pii", table="t", column="c", subject=True)
            shared = lacre.field("pii", table="t", column="d")
            while not stop.exists():
                if chance.random() < 0.2:
                    lacre.resolver.forget()  # otherwise keys would be read once in five minutes
                new = subjects == 0 or chance.random() < 0.3
                subject = f"w{subjects + 1 if new else chance.randint(1, subjects)}"
                mark = f"{chance.getrandbits(60):015x}"
                try:
                    values = (bytes(own.encrypt(mark, row="1", subject=subject)), bytes(shared.encrypt(mark, row="1")))  # fmt: skip
                    if written:
                        before, whose, one, other = chance.choice(written)
                        assert own.decrypt(one, row="1", subject=whose) == before
                        assert shared.decrypt(other, row="1") == before
                except KeyStoreUnreachable:
                    continue  # busy: nothing was written
                subjects += new
                written.append((mark, subject, *values))
                file.write(json.dumps([mark, subject, *(value.hex() for value in values)]) + "\n")
                file.flush()
                time.sleep(0.03)

    child = forked(write)
    try:
        yield
    finally:
        stop.touch()
        ended = survived(child)
    assert ended


def versions(config: Path, kind: KeyKind) -> Sequence[KeyRow]:
    """Every version of the class's key, highest first."""
    with as_operator(config, None, purpose="test") as operator:
        return operator.store.versions(operator.lacre.scope("default", "pii", kind))


def subject_keys(config: Path) -> Sequence[KeyRow]:
    with as_operator(config, None, purpose="test") as operator:
        scope = operator.lacre.scope("default", "pii", KeyKind.SUBJECT)
        return operator.store.subject_page(scope, limit=1_000_000)


def check_versions(config: Path) -> tuple[int, int]:
    """One active version of each key, the highest; those before it decrypt on; every data key is under the branch key."""
    counted = []
    for kind in (KeyKind.BRANCH, KeyKind.DATA):
        rows = versions(config, kind)
        assert [row.version for row in rows] == list(range(len(rows), 0, -1))
        assert [row.state for row in rows] == [KeyState.ACTIVE] + [KeyState.DECRYPT_ONLY] * (len(rows) - 1)  # fmt: skip
        counted.append(len(rows))
    branch = versions(config, KeyKind.BRANCH)[0]
    assert {row.parent for row in versions(config, KeyKind.DATA)} == {branch.key_id.hex()}
    return counted[0], counted[1]


def survive(config: Path, log: Path, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        names = [f"s{number}" for number in range(_SUBJECTS)]
        sealed = box.encrypt_many([("1", name) for name in names], subjects=names)
    work = {kind: lambda kind=kind: rotated(config, kind) for kind in (Rotated.BRANCH, Rotated.DATA)}  # fmt: skip
    with writer(config, log, seed):
        places = {kind: statements(run) for kind, run in work.items()}
        places_of_resuming = statements(lambda: resumed(config))
        killed = stopped_half_way = 0
        while killed < kills:
            before = check_versions(config)
            kind = chance.choice([Rotated.BRANCH, Rotated.BRANCH, Rotated.DATA])
            died = not survived(forked(dying(work[kind], at=chance.randint(1, places[kind]))))
            after = check_versions(config)
            made = {Rotated.BRANCH: after[0] - before[0], Rotated.DATA: after[1] - before[1]}
            assert made.pop(kind) in ((0, 1) if died else (1,))
            assert set(made.values()) == {0}
            killed += died
            if kind is Rotated.DATA:
                continue
            known = {row.key_id: row.parent for row in subject_keys(config)}
            branch = versions(config, KeyKind.BRANCH)[0].key_id.hex()
            stopped_half_way += branch in known.values() and len(set(known.values())) > 1
            if killed < kills and chance.random() < 0.5:
                at = chance.randint(1, places_of_resuming)
                killed += not survived(forked(dying(lambda: resumed(config), at=at)))
            resumed(config)
            found = {row.key_id: row.parent for row in subject_keys(config)}
            # What the writer made meanwhile, with a branch key that it had read, is found next time.
            assert {found[key_id] for key_id in known} == {branch}
    resumed(config)

    check_versions(config)
    assert stopped_half_way
    written = [json.loads(line) for line in log.read_text().splitlines()]
    keys, branch = subject_keys(config), versions(config, KeyKind.BRANCH)[0].key_id.hex()
    assert {(row.version, row.state, row.parent) for row in keys} == {(1, KeyState.ACTIVE, branch)}
    assert len(keys) == len({row.digest for row in keys})
    assert len(keys) >= _SUBJECTS + len({subject for _, subject, _, _ in written})
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        own = lacre.field("pii", table="t", column="c", subject=True)
        shared = lacre.field("pii", table="t", column="d")
        assert own.decrypt_many([("1", value) for value in sealed], subjects=names) == names
        for mark, subject, one, other in written:
            assert own.decrypt(bytes.fromhex(one), row="1", subject=subject) == mark
            assert shared.decrypt(bytes.fromhex(other), row="1") == mark


@pytest.fixture(params=["sqlite", "postgresql"])
def config(home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application whose key store is in a file, or in PostgreSQL; what rotations do with subject keys takes several pages."""
    if request.param == "postgresql":
        database: Database = request.getfixturevalue("database")
        on_postgresql(home, database)
    monkeypatch.setattr(below, "_PAGE", _PAGE)
    return home / "lacre.toml"


def test_rotations_survive_being_killed(config: Path, tmp_path: Path) -> None:
    """Twenty kills, ten for each database, at statements drawn by lot, and a writer throughout."""
    survive(config, tmp_path / "written", kills=10, seed=5)


@pytest.mark.long
def test_rotations_survive_being_killed_often(config: Path, tmp_path: Path) -> None:
    """Three hundred kills, half of them for each database."""
    survive(config, tmp_path / "written", kills=150, seed=6)
