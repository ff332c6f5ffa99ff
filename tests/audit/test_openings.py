# SPDX-License-Identifier: Apache-2.0
"""In mode strict nothing is looked at before somebody who looks is on record, and how often they may."""

import json
import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from lacre import EvidenceUnavailable, Lacre
from lacre.testing import FrozenClock

ROW = UUID(int=7)
Line = dict[str, Any]


@pytest.fixture
def home(home: Path) -> Path:
    """`home`, in mode strict: openings are for four looks and a minute."""
    config = home / "lacre.toml"
    text = config.read_text(encoding="utf-8")
    assert "[audit]\n" in text
    strict = '[audit]\nmode = "strict"\nlooks = 4\n'
    config.write_text(text.replace("[audit]\n", strict), encoding="utf-8")
    return home


def lines(home: Path) -> list[Line]:
    """What is recorded, but for keys and writes."""
    found = map(json.loads, (home / "lacre" / "audit.jsonl").read_text("utf-8").splitlines())
    return [each for each in found if each["action"] in ("opening", "closing", "look", "bulk")]


def actions(home: Path) -> list[str]:
    return [each["action"] for each in lines(home)]


def email(lacre: Lacre) -> Any:
    return lacre.field("pii", table="customers", column="email", type=str)


def test_an_opening_comes_first_and_its_closing_last(lacre: Lacre, home: Path) -> None:
    """Who, why, what, how often and until when, before the value; how often it was, after it."""
    box = email(lacre)
    with lacre.acting_as("user:bia", roles={"app"}, purpose="kyc"):
        sealed = box.encrypt("ana@example.org", row=ROW)
        before = actions(home) if (home / "lacre" / "audit.jsonl").exists() else []
        for _ in range(3):
            assert box.decrypt(sealed, row=ROW) == "ana@example.org"
        during = actions(home)
    lacre.close()
    opening, look, closing = lines(home)

    assert (before, during) == ([], ["opening"])
    assert (opening["principal"], opening["purpose"]) == ("user:bia", "kyc")
    assert (opening["columns"], opening["bound"]) == (["main.customers.email"], 4)
    assert opening["until"] > opening["time"]
    assert look["count"] == closing["looks"] == 3
    assert closing["opening"] == opening["opening"]


def test_a_spent_opening_takes_no_more_looks(lacre: Lacre, home: Path) -> None:
    """The fifth look needs an opening of its own; no closing says more than was allowed."""
    box = email(lacre)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = box.encrypt("x", row=ROW)
        for _ in range(9):
            box.decrypt(sealed, row=ROW)
    lacre.close()
    found = lines(home)

    assert [each["looks"] for each in found if each["action"] == "closing"] == [4, 4, 1]
    assert [each["action"] for each in found].count("opening") == 3


def test_an_opening_is_over_with_its_time_and_its_block(lacre: Lacre, home: Path) -> None:
    """After its minute another is needed, and in another block too, by the same principal."""
    clock = FrozenClock()
    with Lacre(
        lacre.policy,
        store=lacre.store,
        services=lacre.services,
        sink=lacre.recorder._sink,
        clock=clock,
    ) as frozen:
        box = email(frozen)
        for _ in range(2):
            with frozen.acting_as("svc:app", roles={"app"}, purpose="test"):
                sealed = box.encrypt("x", row=ROW)
                box.decrypt(sealed, row=ROW)
        assert actions(home).count("opening") == 2
        with frozen.acting_as("svc:app", roles={"app"}, purpose="test"):
            box.decrypt(sealed, row=ROW)
            clock.advance(59)
            box.decrypt(sealed, row=ROW)
            clock.advance(2)
            box.decrypt(sealed, row=ROW)

    assert actions(home).count("opening") == 4
    assert [each["looks"] for each in lines(home) if each["action"] == "closing"] == [1, 1, 2, 1]


def test_without_an_opening_no_key_is_used(lacre: Lacre, home: Path) -> None:
    """While nothing can be recorded the first look is refused, and the value stays sealed."""
    box = email(lacre)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = box.encrypt("x", row=ROW)
        lacre.flush()
        lacre.resolver.forget()
        asked = lacre.usage()

        class Down:
            def append(self, events: Any) -> None:
                raise OSError(28, "No space left on device")

        sink, lacre.recorder._sink = lacre.recorder._sink, Down()
        with pytest.raises(EvidenceUnavailable):
            box.decrypt(sealed, row=ROW)
        with pytest.raises(EvidenceUnavailable):
            box.decrypt_many([(ROW, sealed)])
        assert lacre.usage() == asked
        lacre.recorder._sink = sink
        assert box.decrypt(sealed, row=ROW) == "x"


def test_who_gets_nothing_opens_nothing(lacre: Lacre, home: Path) -> None:
    """A denied look uses no key, so it needs no opening; it is recorded as ever."""
    box = email(lacre)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = box.encrypt("x", row=ROW)
    with (
        lacre.acting_as("user:eve", roles={"guest"}, purpose="curiosity"),
        pytest.raises(Exception, match="may not decrypt"),
    ):
        box.decrypt(sealed, row=ROW)
    lacre.close()

    assert actions(home) == ["look"]


def test_a_batch_is_opened_for_as_a_whole(lacre: Lacre, home: Path) -> None:
    """More looks than one opening has are as many openings as they need, and all of them are closed."""
    box = email(lacre)
    rows = [uuid4() for _ in range(10)]
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = box.encrypt_many([(row, "x") for row in rows])
        box.decrypt_many(list(zip(rows, sealed, strict=True)))
    lacre.close()
    found = lines(home)

    assert sum(each["looks"] for each in found if each["action"] == "closing") == 10
    assert lacre.guard.openings is not None
    assert lacre.guard.openings.open == 0


def test_a_killed_process_leaves_its_opening_open(lacre: Lacre, home: Path) -> None:
    """SIGKILL takes the looks in memory along; that there were some, whose and how many at most stays."""
    lacre.close()
    pid = os.fork()
    if pid == 0:
        try:
            with lacre.acting_as("user:thief", roles={"app"}, purpose="kyc"):
                box = email(lacre)
                box.decrypt(box.encrypt("x", row=ROW), row=ROW)
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    [opening] = lines(home)

    assert (opening["action"], opening["principal"], opening["bound"]) == (
        "opening",
        "user:thief",
        4,
    )


def test_a_closing_waits_until_its_looks_are_on_record(lacre: Lacre, home: Path) -> None:
    """In the file the looks are before the closing, in whichever drain that is."""
    box = email(lacre)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        box.decrypt(box.encrypt("x", row=ROW), row=ROW)
    lacre.flush()
    assert actions(home) == ["opening", "look"]
    lacre.close()

    assert actions(home) == ["opening", "look", "closing"]
