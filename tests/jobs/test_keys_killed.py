# SPDX-License-Identifier: Apache-2.0
"""Rotations of data and branch keys, killed between any two statements, with a writer at work: every value opens."""

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer

from lacre import Lacre
from lacre.cli.keys.making import Rotated, rotate
from lacre.cli.keys.rewrapping import rewrap
from lacre.cli.operator import key_store
from lacre.errors import KeyStoreUnreachable
from lacre.keys import below
from lacre.keys.below import Below
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.policy.decisions import Policy
from tests.components.postgresql import Database
from tests.jobs.killing import dying, forked, places, survived
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


class Keys:
    """The key store, as it is now: what kills leave is looked at many times, so it is opened once."""

    def __init__(self, config: Path) -> None:
        self.store, policy = key_store(config)
        self._policy = Policy(policy, pins={})

    def versions(self, kind: KeyKind) -> Sequence[KeyRow]:
        """Every version of the class's key, highest first."""
        return self.store.versions(self._policy.scope(kind, "pii", "default"))

    def of_subjects(self) -> Sequence[KeyRow]:
        return self.store.subject_page(self._policy.scope(KeyKind.SUBJECT, "pii", "default"), limit=1_000_000)  # fmt: skip


def check_versions(keys: Keys) -> tuple[int, int]:
    """One active version of each key, the highest; those before it decrypt on; every data key is under the branch key."""
    counted = []
    for kind in (KeyKind.BRANCH, KeyKind.DATA):
        rows = keys.versions(kind)
        assert [row.version for row in rows] == list(range(len(rows), 0, -1))
        assert [row.state for row in rows] == [KeyState.ACTIVE] + [KeyState.DECRYPT_ONLY] * (len(rows) - 1)  # fmt: skip
        counted.append(len(rows))
    branch = keys.versions(KeyKind.BRANCH)[0]
    assert {row.parent for row in keys.versions(KeyKind.DATA)} == {branch.key_id.hex()}
    return counted[0], counted[1]


def half_way(work: Callable[[], None]) -> Callable[[], None]:
    """Return *work*, killed once it has stored its first page of subject keys, and before it stores the next."""

    def run() -> None:
        stored = Below._stored

        def once(below: Below, pairs: Sequence[tuple[KeyRow, KeyRow]]) -> int:
            if stored(below, pairs):
                os.kill(os.getpid(), signal.SIGKILL)
            return 0

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Below, "_stored", once)
            work()

    return run


def survive(config: Path, log: Path, *, kills: int, seed: int) -> None:
    chance, keys = random.Random(seed), Keys(config)
    with Lacre.load(config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        names = [f"s{number}" for number in range(_SUBJECTS)]
        sealed = box.encrypt_many([("1", name) for name in names], subjects=names)
    work = {kind: lambda kind=kind: rotated(config, kind) for kind in (Rotated.BRANCH, Rotated.DATA)}  # fmt: skip
    with writer(config, log, seed):
        statements = {kind: places(run)[0] for kind, run in work.items()}
        statements_of_resuming, _ = places(lambda: resumed(config))
        killed = 0
        while killed < kills:
            before = check_versions(keys)
            kind = chance.choice([Rotated.BRANCH, Rotated.BRANCH, Rotated.DATA])
            run = dying(work[kind], at=chance.randint(1, statements[kind]))
            if first := killed == 0:  # not left to chance: keys are under two branch keys then
                kind, run = Rotated.BRANCH, half_way(work[Rotated.BRANCH])
            died = not survived(forked(run))
            now = check_versions(keys)
            made = {Rotated.BRANCH: now[0] - before[0], Rotated.DATA: now[1] - before[1]}
            assert made.pop(kind) in ((0, 1) if died else (1,))
            assert set(made.values()) == {0}
            killed += died
            if kind is Rotated.DATA:
                continue
            known = {row.key_id: row.parent for row in keys.of_subjects()}
            branch = keys.versions(KeyKind.BRANCH)[0].key_id.hex()
            assert not first or (died and len(set(known.values())) > 1 and branch in known.values())
            if killed < kills and chance.random() < 0.5:
                at = chance.randint(1, statements_of_resuming)
                killed += not survived(forked(dying(lambda: resumed(config), at=at)))
            resumed(config)
            after = {row.key_id: row.parent for row in keys.of_subjects()}
            # What the writer made meanwhile, with a branch key that it had read, is found next time.
            assert {after[key_id] for key_id in known} == {branch}
    resumed(config)

    check_versions(keys)
    written = [json.loads(line) for line in log.read_text().splitlines()]
    found, branch = keys.of_subjects(), keys.versions(KeyKind.BRANCH)[0].key_id.hex()
    keys.store.close()
    assert {(row.version, row.state, row.parent) for row in found} == {(1, KeyState.ACTIVE, branch)}
    assert len(found) == len({row.digest for row in found})
    assert len(found) >= _SUBJECTS + len({subject for _, subject, _, _ in written})
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
    """Twenty kills, ten for each database, half way and at statements drawn by lot, and a writer throughout."""
    survive(config, tmp_path / "written", kills=10, seed=5)


@pytest.mark.long
def test_rotations_survive_being_killed_often(config: Path, tmp_path: Path) -> None:
    """Three hundred kills, half of them for each database."""
    survive(config, tmp_path / "written", kills=150, seed=6)
