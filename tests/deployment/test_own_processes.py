# SPDX-License-Identifier: Apache-2.0
"""Threads, tasks and processes that an application starts itself act as whoever opened their block."""

import asyncio
import contextvars
import json
import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.context import current
from lacre.errors import ActingError

_shared: list[Lacre] = []  # what a forked child finds of its parent's


def _looks(home: Path) -> list[tuple[str, str]]:
    log = (home / "lacre" / "audit.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in log.splitlines()]
    return [
        (event["principal"], row)
        for event in events
        if event["action"] == "look"
        for row in event["rows"]
    ]


def _child(home: Path, sealed: bytes, told: Any) -> None:
    # In a child of fork with the parent's application, otherwise with one of its own.
    try:
        told.put(current().principal)
    except ActingError as error:
        told.put(type(error).__name__)
    lacre = _shared[0] if _shared else Lacre.load(home / "lacre.toml", environ={})
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("svc:child", roles={"app"}, purpose="test"):
        told.put(box.decrypt(sealed, row="1"))
    lacre.close()


@pytest.mark.parametrize(
    ("method", "before"),
    [("fork", "ActingEnded"), ("forkserver", "NoPrincipal"), ("spawn", "NoPrincipal")],
)
def test_a_process_started_inside_a_block_opens_its_own(
    home: Path, lacre: Lacre, method: str, before: str
) -> None:
    """It does not act as its parent, and its look is in the evidence once, beside its parent's."""
    context: Any = multiprocessing.get_context(method)
    told = context.SimpleQueue()
    box = lacre.field("pii", table="t", column="c")
    _shared.append(lacre)
    try:
        with lacre.acting_as("svc:parent", roles={"app"}, purpose="test"):
            sealed = bytes(box.encrypt("ana", row="1") or b"")
            box.decrypt(sealed, row="1")
            process = context.Process(target=_child, args=(home, sealed, told))
            process.start()
            process.join(60)
            box.decrypt(sealed, row="1")
    finally:
        _shared.clear()
    lacre.flush()

    assert process.exitcode == 0
    assert [told.get(), told.get()] == [before, "ana"]
    assert sorted(who for who, _ in _looks(home)) == ["svc:child", "svc:parent", "svc:parent"]


def test_threads_of_a_pool_act_in_the_block_they_open_or_are_given(
    home: Path, lacre: Lacre
) -> None:
    """Two hundred jobs on eight threads, each for somebody else: every look has its own principal."""
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("svc:writer", roles={"app"}, purpose="test"):
        sealed = [box.encrypt(str(n), row=str(n)) for n in range(200)]

    def own(n: int) -> Any:
        with lacre.acting_as(f"user:{n}", roles={"app"}, purpose="test"):
            return box.decrypt(sealed[n], row=str(n))

    with ThreadPoolExecutor(8) as pool:
        jobs = []
        for n in range(0, 200, 2):
            jobs.append(pool.submit(own, n))
            with lacre.acting_as(f"user:{n + 1}", roles={"app"}, purpose="test"):
                given = contextvars.copy_context()
                given_job = pool.submit(given.run, box.decrypt, sealed[n + 1], row=str(n + 1))
                assert given_job.result() == str(n + 1)
        values = [job.result() for job in jobs]
    lacre.flush()

    assert values == [str(n) for n in range(0, 200, 2)]
    assert sorted(_looks(home)) == sorted((f"user:{n}", str(n)) for n in range(200))


def test_tasks_and_their_threads_act_in_their_own_block(home: Path, lacre: Lacre) -> None:
    """A hundred tasks that look across `await` and by `to_thread`: none sees another's principal."""
    box = lacre.field("pii", table="t", column="c")
    with lacre.acting_as("svc:writer", roles={"app"}, purpose="test"):
        sealed = [box.encrypt(str(n), row=str(n)) for n in range(100)]

    async def request(n: int) -> None:
        with lacre.acting_as(f"user:{n}", roles={"app"}, purpose="test"):
            await asyncio.sleep(0)
            assert await asyncio.to_thread(box.decrypt, sealed[n], row=str(n)) == str(n)
            await asyncio.sleep(0)
            assert box.decrypt(sealed[n], row=str(n)) == str(n)

    async def all_of_them() -> None:
        await asyncio.gather(*(request(n) for n in range(100)))

    asyncio.run(all_of_them())
    lacre.flush()

    assert sorted(_looks(home)) == sorted([(f"user:{n}", str(n)) for n in range(100)] * 2)
