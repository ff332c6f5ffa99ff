# SPDX-License-Identifier: Apache-2.0
"""Sealing and shredding, killed between any two statements, with a writer at work: nothing is lost, nothing comes back."""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lacre import Lacre
from lacre.cli.operator import as_operator
from lacre.errors import KeyDestroyed, KeyStoreUnreachable, MisuseError
from lacre.keys.epochs import EpochState
from lacre.keys.hierarchy import KeyState
from lacre.keys.sealing import cover
from tests.jobs.erasing import Shop


def forked(work: Callable[[], None]) -> int:
    """Run *work* in a child; return its id. It exits 0 once it is done, 1 where it raises."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def dying(work: Callable[[], None], *, at: int) -> Callable[[], None]:
    """Return *work*, killed right before its statement number *at*."""

    def run() -> None:
        left = [at]

        def count(*_: Any) -> None:
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(sa.Engine, "before_cursor_execute", count)
        sa.event.listen(sa.Engine, "commit", count)
        work()

    return run


def survived(child: int) -> bool:
    """Wait for a child; return whether it ended well, and not killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.WEXITSTATUS(status) == 0
    return True


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
                subject = f"w{number}"
                try:
                    sealed = bytes(box.encrypt(subject, row="1", subject=subject))
                except (KeyStoreUnreachable, MisuseError):
                    continue  # busy, or sealed three times in a row: nothing was written
                file.write(json.dumps([subject, sealed.hex()]) + "\n")
                file.flush()
                time.sleep(0.01)

    child = forked(write)
    try:
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


def seals(shop: Shop, log: Path, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    subjects = [f"s{number}@example.org" for number in range(6)]
    shop.add(*subjects)
    shredded: list[str] = []
    with writer(shop, log):
        killed = 0
        while killed < kills:
            if len(shredded) < 4 and killed % 3 == 0:
                shredded.append(subjects[len(shredded)])
                shop.shred(shredded[-1])
            # Early statements are many kinds, late ones many of one kind: a few far, most near.
            at = max(1, int(900 ** chance.random()))
            killed += not survived(forked(dying(shop.seal, at=at)))
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


def shreds(shop: Shop, log: Path, *, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    subjects = [f"s{number}@example.org" for number in range(kills + 1)]
    shop.add(*subjects)
    shredded = subjects[:kills]
    with writer(shop, log):
        for subject in shredded:
            died = forked(
                dying(lambda subject=subject: shop.shred(subject), at=chance.randint(1, 45))
            )  # type: ignore[misc]
            if not survived(died):
                shop.shred(subject)

    check(shop, log, subjects, shredded)
    for query in ("SELECT name_bidx FROM customers", "SELECT note_bidx FROM orders"):
        left = [bytes(token) for (token,) in shop.stored(query) if bytes(token) != bytes(4)]
        assert len(left) == 1
    named = [body for body in shop.certificates() if body["keys"]]
    assert len({body["subject"] for body in named}) == kills
    assert list((shop.home / "lacre/certificates").glob(".*")) == []


def test_sealing_survives_being_killed(home: Path, tmp_path: Path) -> None:
    """Ten kills at statements drawn by lot, shreds in between, and a writer throughout."""
    seals(Shop.made(home), tmp_path / "written", kills=10, seed=1)


def test_shredding_survives_being_killed(home: Path, tmp_path: Path) -> None:
    """Ten subjects, each shredding killed at a statement drawn by lot and run again."""
    shreds(Shop.made(home), tmp_path / "written", kills=10, seed=2)


@pytest.mark.long
def test_sealing_survives_being_killed_often(home: Path, tmp_path: Path) -> None:
    """A hundred and fifty kills."""
    seals(Shop.made(home), tmp_path / "written", kills=150, seed=3)


@pytest.mark.long
def test_shredding_survives_being_killed_often(home: Path, tmp_path: Path) -> None:
    """A hundred and fifty subjects."""
    shreds(Shop.made(home), tmp_path / "written", kills=150, seed=4)
