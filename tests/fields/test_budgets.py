# SPDX-License-Identifier: Apache-2.0
"""A principal sees so many values of a class in a window, and then masks, or nothing."""

import asyncio
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from lacre import AccessDenied, Lacre, acting_as
from lacre.audit.event import Event, Outcome
from lacre.audit.keeping import BudgetSpent
from lacre.context import Acting
from lacre.errors import EvidenceUnavailable
from lacre.fields.budgets import Budgets, Meter, Spent
from lacre.fields.held import HeldField
from lacre.policy.budgets import BudgetSettings
from lacre.policy.decisions import Decision, Policy
from lacre.sensitive import Mask
from lacre.stores.log.log import AuditLog
from lacre.stores.log.spent import SpentLooks
from lacre.testing import CapturedEvents, FrozenClock
from tests.components.postgresql import Server
from tests.sqlalchemy.models import Customer
from tests.stores.log.alerting import kept_in

ALLOWED = Decision(Outcome.ALLOWED, "classes.pii.rights.app: decrypt")
BEGIN = 1_800_000_000.0  # a whole hour


def acting(principal: str = "svc:app", *roles: str) -> Acting:
    """Who looks."""
    return Acting(principal, frozenset(roles or ("app",)), "test", None)


class Counting:
    """Budgets of one class, the clock they go by and what they recorded."""

    def __init__(self, **settings: Any) -> None:
        self.clock = FrozenClock(BEGIN)
        self.events: list[Event] = []
        read = BudgetSettings.model_validate({"looks": 3, **settings})
        self.budgets = Budgets({"pii": read}, record=self.record, clock=self.clock)
        self.failing: Exception | None = None

    def record(self, event: Event) -> None:
        if self.failing is not None:
            raise self.failing
        self.events.append(event)

    @property
    def meter(self) -> Meter:
        found = self.budgets.meter("pii")
        assert found is not None
        return found

    def look(self, looks: int = 1, who: Acting | None = None) -> Outcome:
        return self.meter.charge(who or acting(), ALLOWED, "default", looks).outcome


Bound = Callable[..., tuple[Lacre, CapturedEvents, FrozenClock]]


@pytest.fixture
def bound(lacre: Lacre) -> Iterator[Bound]:
    """What gives the application's class pii a budget of three looks an hour."""
    made: list[Lacre] = []

    def make(**changed: Any) -> tuple[Lacre, CapturedEvents, FrozenClock]:
        file = lacre.policy.file
        budget = BudgetSettings.model_validate({"looks": 3, **changed.pop("budget", {})})
        pii = file.classes["pii"].model_copy(update={"budget": budget, "mask": "email", **changed})
        policy = Policy(file.model_copy(update={"classes": {**file.classes, "pii": pii}}))
        events, clock = CapturedEvents(), FrozenClock(BEGIN)
        made.append(Lacre(policy, store=lacre.store, services=lacre.services, sink=events, clock=clock))  # fmt: skip
        return made[-1], events, clock

    yield make
    for application in made:
        application.recorder.close()


def test_what_is_spent_is_masked_until_the_window_passes(bound: Bound) -> None:
    """The fourth look is a mask, in the same block too, is recorded as one, and an hour later it is a value again."""
    lacre, events, clock = bound()
    field = lacre.field("pii", table="customers", column="email", type=str)
    other = lacre.field("banking", table="customers", column="account", type=str)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed, account = field.encrypt("ana@example.org", row="1"), other.encrypt("1", row="1")
        seen = [str(field.decrypt(sealed, row="1")) for _ in range(5)]
        beside = [other.decrypt(account, row="1") for _ in range(5)]
        clock.advance(1800)
        within = field.decrypt(sealed, row="1")
    with lacre.acting_as("svc:app", roles={"app"}, purpose="another"):
        again = field.decrypt(sealed, row="1")
    with lacre.acting_as("svc:other", roles={"app"}, purpose="test"):
        others = field.decrypt(sealed, row="1")
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        clock.advance(1800)
        after = field.decrypt(sealed, row="1")
    lacre.flush()

    assert seen == ["ana@example.org"] * 3 + ["a***@example.org"] * 2
    assert beside == ["1"] * 5
    assert isinstance(within, Mask)
    assert isinstance(again, Mask)
    assert (others, after) == ("ana@example.org", "ana@example.org")
    (spent,) = events.of("budget")
    assert isinstance(spent, BudgetSpent)
    assert (spent.principal, spent.class_, spent.budget) == ("svc:app", "pii", 3)
    assert spent.until == "2027-01-15T09:00:00.000000Z"
    masked = [event.details() for event in events.of("look") if event.details()["outcome"] == "masked"]  # fmt: skip
    assert {each["rule"] for each in masked} == {"classes.pii.budget: 3 looks in 3600 s are spent"}
    assert sum(int(str(each["count"])) for each in masked) == 4


def test_what_is_spent_is_denied_where_the_policy_says_so(bound: Bound) -> None:
    """`then = "deny"` is the class's denial: an error that names the rule, or the mask that hides all."""
    for denied in ("error", "mask"):
        lacre, _, _ = bound(budget={"then": "deny"}, denied=denied)
        field = lacre.field("pii", table="customers", column="email", type=str)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            sealed = field.encrypt("ana@example.org", row="1")
            field.decrypt_many([("1", sealed)] * 3)
            if denied == "mask":
                assert str(field.decrypt(sealed, row="1")) == "***"
                continue
            with pytest.raises(AccessDenied) as caught:
                field.decrypt(sealed, row="1")
            assert "classes.pii.budget" in caught.value.hint


def test_every_way_to_look_is_counted(bound: Bound) -> None:
    """A value just assigned, one of a legacy reader and one taken for another row count; what fails to open too."""
    lacre, _, _ = bound(budget={"looks": 4})
    scheme = lacre.field("pii", table="customers", column="email", type=str).scheme
    field = HeldField(lacre.guard, scheme)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = field.encrypt("ana@example.org", row="1")
        field.look_at_pending("ana@example.org")
        field.look_elsewhere(lambda: "ana@example.org", by="old", row="1")
        field.take_elsewhere(lambda: "ana@example.org", by="old")
        with pytest.raises(Exception, match="does not open"):
            field.decrypt(sealed, row="2")

        assert isinstance(field.look_at_pending("ana@example.org"), Mask)
        assert isinstance(field.look_elsewhere(lambda: "ana@example.org", by="old", row="1"), Mask)
        assert isinstance(field.look_at_stored(sealed, row="1"), Mask)
        assert field.holds(sealed, "ana@example.org", row="1")
        with pytest.raises(AccessDenied):
            field.take_elsewhere(lambda: "ana@example.org", by="old")


def test_masks_cost_nothing(bound: Bound) -> None:
    """Whoever gets masks anyway, or nothing, spends no budget."""
    lacre, events, _ = bound()
    field = lacre.field("pii", table="customers", column="email", type=str)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        sealed = field.encrypt("ana@example.org", row="1")
    with lacre.acting_as("svc:app", roles={"support"}, purpose="test"):
        field.decrypt_many([("1", sealed)] * 9)
    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        assert field.decrypt(sealed, row="1") == "ana@example.org"
    lacre.flush()

    assert events.of("budget") == []


def test_a_bulk_reading_that_does_not_fit_is_refused(bound: Bound) -> None:
    """A batch of more rows than are left gives nothing, whatever comes then, and spends nothing; it may be exempt."""
    for bulk in (True, False):
        lacre, _, _ = bound(budget={"bulk": bulk})
        field = HeldField(lacre.guard, lacre.field("pii", table="customers", column="email", type=str).scheme)  # fmt: skip
        with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
            sealed = field.encrypt("ana@example.org", row="1")
            reading = field.reading()
            assert len(reading.opened([("1", sealed), ("1", None), ("1", sealed)])) == 3
            if bulk:
                with pytest.raises(AccessDenied) as caught:
                    reading.opened([("1", sealed)] * 2)
                assert "classes.pii.budget" in caught.value.hint
                assert field.decrypt(sealed, row="1") == "ana@example.org"
                assert isinstance(field.decrypt(sealed, row="1"), Mask)
            else:
                assert len(reading.opened([("1", sealed)] * 9)) == 9


def test_an_event_loop_has_no_budget_of_its_own(bound: Bound) -> None:
    """Sessions on an event loop count in the application's budgets, and a value read there is a look as any."""
    lacre, _, _ = bound()

    async def look(statement: Any) -> list[Any]:
        engine = create_async_engine("sqlite+aiosqlite://")
        async with engine.begin() as connection:
            await connection.run_sync(Customer.metadata.create_all)
        async with lacre.sqlalchemy(async_sessionmaker(engine)).begin() as session:
            session.add_all(Customer(email=f"a{number}@example.org") for number in range(4))
        async with lacre.sqlalchemy(async_sessionmaker(engine))() as session:
            seen = [each.email for each in await session.scalars(statement)]
        await engine.dispose()
        return seen

    with lacre.acting_as("svc:app", roles={"app"}, purpose="test"):
        seen = asyncio.run(look(select(Customer)))

    assert [isinstance(each, Mask) for each in seen] == [False, False, False, True]


def test_roles_and_principals_have_their_own() -> None:
    """A principal's own budget counts, then the largest of its roles', then the class's; the looks are one count."""
    counting = Counting(looks=1, roles={"kyc": 2, "night": 4}, principals={"svc:job": 6})
    both = acting("user:ana", "kyc", "night")

    assert [counting.look(6, acting("svc:job", "kyc")), counting.look(1, acting("svc:job"))] == ["allowed", "masked"]  # fmt: skip
    assert [counting.look(4, both), counting.look(1, both)] == ["allowed", "masked"]
    assert counting.look(1, acting("user:ana", "kyc")) == "masked"
    assert [counting.look(1), counting.look(1)] == ["allowed", "masked"]


def test_the_count_is_exact_in_a_process() -> None:
    """Of 800 looks by eight threads, 500 are allowed, and that it is spent is recorded once."""
    counting = Counting(looks=500)
    together = threading.Barrier(8)

    def look(_: int) -> int:
        together.wait()
        return sum(counting.look() is Outcome.ALLOWED for _ in range(100))

    with ThreadPoolExecutor(8) as pool:
        allowed = sum(pool.map(look, range(8)))

    assert allowed == 500
    assert len(counting.events) == 1


def test_spending_is_told_before_it_is_answered() -> None:
    """Where it cannot be recorded that a budget is spent the look is refused, and the next one tells it."""
    counting = Counting(looks=1)
    counting.look()
    counting.failing = EvidenceUnavailable("full")
    with pytest.raises(EvidenceUnavailable):
        counting.look()
    counting.failing = None

    assert counting.look() is Outcome.MASKED
    assert len(counting.events) == 1


def test_a_clock_that_goes_back_gives_nothing_back() -> None:
    """A budget that is spent stays so when the clock is set back, and in a child process."""
    counting = Counting(looks=1)
    counting.look()
    counting.clock.advance(-7200)
    back = counting.look()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(counting.look()).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert back is Outcome.MASKED
    assert os.read(reader, 20) == b"masked"
    os.close(reader)
    os.close(writer)


@pytest.fixture(params=["sqlite", "postgresql"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLog]:
    """An evidence log, on either database."""
    if request.param == "sqlite":
        with kept_in(tmp_path / "audit.db") as made:
            yield made
        return
    server: Server = request.getfixturevalue("postgresql")
    with server.database() as database, kept_in(database.text_url()) as made:
        yield made


def test_processes_share_what_they_spent(log: AuditLog) -> None:
    """After an exchange the looks of two processes are one count; the bound before is what each took."""
    one, two = Counting(looks=10), Counting(looks=10)
    for each in (one, two):
        each.budgets.share(SpentLooks(log, clock=each.clock))
        each.budgets._wake.set()  # as if the thread were about to: exchanged by hand
        each.look(6)
    one.budgets.exchange()
    two.budgets.exchange()

    assert two.look() is Outcome.MASKED
    assert one.look() is Outcome.ALLOWED
    one.budgets.exchange()
    assert one.look() is Outcome.MASKED
    for each in (one, two):
        each.clock.advance(3600)
    assert one.look(4) is Outcome.ALLOWED
    one.budgets.exchange()
    assert [two.look(7), two.meter.charge(acting(), ALLOWED, "x", 0).outcome] == ["allowed", "allowed"]  # fmt: skip
    two.budgets.exchange()
    assert two.look() is Outcome.MASKED


def test_no_name_keeps_looks_from_being_shared(log: AuditLog) -> None:
    """Names that no database takes are counted, each by itself, and so are those beside them."""
    drawn = random.Random(6)
    long = "".join(chr(drawn.randrange(0x20000, 0x2A6D0)) for _ in range(3000))
    names = ["svc:x", "a\0", "a\ud800", "a\ud801", long]
    looks = {Spent("pii", name, int(BEGIN), int(BEGIN) + 3600): 2 for name in names}
    shared = SpentLooks(log)
    shared.add(looks)

    assert list(shared.add(looks).values()) == [4] * 5


class Away:
    """A shared counter that does not answer."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def add(self, looks: Mapping[Spent, int]) -> Mapping[Spent, int]:
        self.asked.set()
        raise EvidenceUnavailable("away")

    def close(self) -> None:
        """Nothing is open."""


def test_what_could_not_be_shared_is_shared_later(tmp_path: Path) -> None:
    """While the counter is away a process counts for itself, and loses none of it."""
    counting, away = Counting(looks=10), Away()
    counting.budgets.share(away)
    counting.look(4)
    asked = away.asked.wait(20)
    counting.budgets.close()
    with kept_in(tmp_path / "audit.db") as log:
        shared = SpentLooks(log, clock=counting.clock)
        counting.budgets.share(shared)
        counting.look(2)
        counting.budgets.close()
        ((spent, total),) = shared.add(dict.fromkeys([Spent("pii", "svc:app", int(BEGIN), int(BEGIN) + 3600)], 0)).items()  # fmt: skip

    assert asked
    assert (spent.principal, total) == ("svc:app", 6)
    assert counting.look(5) is Outcome.MASKED


def test_windows_that_are_over_go(tmp_path: Path) -> None:
    """The shared counter keeps no window that is over, nor a process principals without end."""
    with kept_in(tmp_path / "audit.db") as log:
        clock = FrozenClock(BEGIN)
        shared = SpentLooks(log, clock=clock)
        spent = Spent("pii", "svc:app", int(BEGIN), int(BEGIN) + 60)
        shared.add({spent: 5})
        clock.advance(200)
        shared.add({replace(spent, begin=spent.begin + 180, end=spent.end + 180): 1})
        totals = shared.add({spent: 1})
    counting = Counting()
    for number in range(10_000):
        counting.look(1, acting(f"user:{number}"))
    counting.clock.advance(3600)
    counting.look()

    assert totals[spent] == 1
    assert len(counting.meter._windows) == 1


def test_an_application_shares_through_its_log(home: Path) -> None:
    """Two applications of one lacre.toml with a log count together, by the time the first has closed."""
    config = home / "lacre.toml"
    text = config.read_text("utf-8").replace("[classes.pii]\n", '[classes.pii]\nbudget = { looks = 3, per = "7 days" }\n')  # fmt: skip
    if "audit.db" not in text:
        text = text.replace(
            "[audit]\n", '[audit]\nurl = "sqlite:///lacre/audit.db"\nsequencer = "apart"\n'
        )
    config.write_text(text, "utf-8")
    with kept_in(home / "lacre/audit.db"):
        seen = []
        for _ in range(2):
            with Lacre.load(config, environ={}) as lacre, acting_as("svc:app", roles={"app"}, purpose="test"):  # fmt: skip
                field = HeldField(lacre.guard, lacre.field("pii", table="customers", column="email", type=str).scheme)  # fmt: skip
                sealed = field.encrypt("ana@example.org", row="1")
                try:
                    seen.append(len(field.reading().opened([("1", sealed)] * 2)))
                except AccessDenied:
                    seen.append(0)

    assert seen == [2, 0]
