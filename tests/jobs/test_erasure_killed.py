# SPDX-License-Identifier: Apache-2.0
"""Sealing and shredding, killed between any two statements and within a COMMIT, with a writer at work: nothing is lost, nothing comes back."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.cli.operator import as_operator
from lacre.errors import KeyDestroyed, KeyStoreUnreachable, MisuseError
from lacre.keys.epochs import EpochState
from lacre.keys.hierarchy import KeyState
from lacre.keys.sealing import cover
from tests.components.postgresql import Database, Server
from tests.jobs.erasing import Shop
from tests.jobs.killing import DYING, comes, dying, forked, places, survived
from tests.jobs.test_sealing_services import on_postgresql

SEALING_COMMITS = 12  # of a sealing that is not resumed, or a few more


@contextmanager
def writer(shop: Shop, log: Path) -> Iterator[None]:
    """Somebody who encrypts for new subjects all the time, and notes what was encrypted."""
    stop = log.with_suffix(".stop")

    def write() -> None:
        number = 0
        with Lacre.load(shop.config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"), log.open("a") as file:  # fmt: skip
            box = lacre.field("pii", table="t", column="c", subject=True)
            while not stop.exists():
                number += 1
                subject = f"{log.stem}{number}"
                try:
                    sealed = bytes(box.encrypt(subject, row="1", subject=subject))
                except (KeyStoreUnreachable, MisuseError):
                    continue  # busy, or sealed three times in a row: nothing was written
                file.write(json.dumps([subject, sealed.hex()]) + "\n")
                file.flush()
                time.sleep(0.03)

    child = forked(write)
    try:
        assert comes(lambda: log.exists() and log.stat().st_size > 0)
        yield
    finally:
        stop.touch()
        ended = survived(child)
    assert ended


def check(shop: Shop, log: Path, subjects: list[str], shredded: list[str]) -> None:
    """Everything written opens in a process that begins now, and what was shredded does not."""
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert written
    with Lacre.load(shop.config, environ={}) as lacre, lacre.acting_as("svc:app", roles={"app"}, purpose="t"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", subject=True)
        for subject, sealed in written:
            assert box.decrypt(bytes.fromhex(sealed), row="1", subject=subject) == subject
    for subject in subjects:
        if subject in shredded:
            with pytest.raises(KeyDestroyed):
                shop.read(subject)
        else:
            assert shop.read(subject)[1] == "Ana Canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A shop, and the server that its databases are on, or None."""

    shop: Shop
    server: Server | None

    def dies(self, work: Callable[[], None], *, at: int, commits: bool) -> bool:
        """Run *work* in a child that is killed there; return whether it was. What it had sent is over then."""
        died = not survived(forked(dying(work, at=at, commits=commits)))
        if died and self.server is not None:
            with Database(server=self.server, name="postgres").connect() as connection:
                alive = "SELECT 1 FROM pg_stat_activity WHERE application_name = %s"
                while connection.execute(alive, [DYING]).fetchone():
                    time.sleep(0.002)
        return died


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, home: Path) -> Iterator[Place]:
    """A shop whose key store and data are two files, or two databases of PostgreSQL."""
    if request.param == "sqlite":
        yield Place(shop=Shop.made(home), server=None)
        return
    database: Database = request.getfixturevalue("database")
    on_postgresql(home, database)
    with database.server.database() as other:
        yield Place(shop=Shop.made(home, url=other.text_url()), server=database.server)


def seals(place: Place, log: Path, *, kills: int, seed: int) -> None:
    chance, shop = random.Random(seed), place.shop
    subjects = [f"sealed{number}@example.org" for number in range(6)]
    shop.add(*subjects)
    shredded: list[str] = []
    with writer(shop, log):
        killed = 0
        while killed < kills:
            if len(shredded) < 4 and killed % 3 == 0:
                shredded.append(subjects[len(shredded)])
                shop.shred(shredded[-1])
            # Early statements are many kinds, late ones many of one kind: a few far, most near.
            at, within = max(1, int(900 ** chance.random())), killed % 3 == 2
            if within:
                at = chance.randint(1, SEALING_COMMITS)
            killed += place.dies(shop.seal, at=at, commits=within)
        shop.seal()
    shop.seal()

    check(shop, log, subjects, shredded)
    with as_operator(shop.config, None, purpose="test") as operator:
        epochs = operator.lacre.epochs.rows()
        buckets = {row.key_id: row for row in operator.store.bucket_keys()}
        keys = operator.store.subject_keys_by_id(after=b"", limit=100_000)
    assert [row.state for row in epochs[1:]] == [EpochState.DESTROYED] * (len(epochs) - 1)
    for row in keys:
        bucket = buckets[cover(row) or b""]
        assert (bucket.state, bucket.parent) == (KeyState.ACTIVE, epochs[0].seal)
    left = [path.name for path in (shop.home / "lacre/keystore/epochs").iterdir()]
    assert left == [f"seal.epoch-{epochs[0].number}.json"]


def shreds(place: Place, log: Path, *, kills: int, seed: int) -> None:
    chance, shop = random.Random(seed), place.shop
    subjects = ["s0@example.org", "stays@example.org"]
    shop.add(*subjects)
    shredded: list[str] = []
    killed = 0
    with writer(shop, log):
        statements, commits = places(lambda: shop.shred(subjects[0]))
        shredded.append(subjects[0])
        while killed < kills:
            subject = f"s{len(shredded)}@example.org"
            shop.add(subject)
            subjects.append(subject)
            shredded.append(subject)
            ended = False
            # Killed, it is run again, and killed again, until it comes to its end.
            while not ended and killed < kills:
                within = killed % 3 == 2
                at = chance.randint(1, commits if within else statements)
                ended = not place.dies(lambda subject=subject: shop.shred(subject), at=at, commits=within)  # type: ignore[misc] # fmt: skip
                killed += not ended
            if not ended:
                shop.shred(subject)

    assert killed == kills
    check(shop, log, subjects, shredded)
    for query in ("SELECT name_bidx FROM customers", "SELECT note_bidx FROM orders"):
        left = [bytes(token) for (token,) in shop.stored(query) if bytes(token) != bytes(4)]
        assert len(left) == len(subjects) - len(shredded)
    named = [body for body in shop.certificates() if body["keys"]]
    assert len({body["subject"] for body in named}) == len(shredded)
    assert list((shop.home / "lacre/certificates").glob(".*")) == []


def test_shredding_and_sealing_survive_being_killed(place: Place, tmp_path: Path) -> None:
    """Twelve kills, six for each database, a third of them within a COMMIT; what was killed is run again until it ends."""
    shreds(place, tmp_path / "shreds", kills=3, seed=2)
    seals(place, tmp_path / "seals", kills=3, seed=1)


@pytest.mark.long
def test_sealing_survives_being_killed_often(place: Place, tmp_path: Path) -> None:
    """A hundred and fifty kills, half of them for each database."""
    seals(place, tmp_path / "seals", kills=75, seed=3)


@pytest.mark.long
def test_shredding_survives_being_killed_often(place: Place, tmp_path: Path) -> None:
    """A hundred and fifty kills, half of them for each database."""
    shreds(place, tmp_path / "shreds", kills=75, seed=4)
