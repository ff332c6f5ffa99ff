"""Each role of a log does its work with its own credential, and nothing beyond it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from lacre.audit.delivery import Rules
from lacre.cli.program import app
from lacre.errors import ConfigurationError
from lacre.fields.budgets import Spent
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.deliveries import Deliveries
from lacre.stores.log.honeytokens import HoneytokenStore
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import LogReader
from lacre.stores.log.roles import LogRoles
from lacre.stores.log.schema import INBOX
from lacre.stores.log.sink import LogSink
from lacre.stores.log.spent import SpentLooks
from tests.audit.looks import STAMP, searched
from tests.components.postgresql import Database
from tests.stores.log.alerting import finding
from tests.stores.log.test_sequencer import Clock, check_signed, sequencer_of, told

pytestmark = pytest.mark.any_sqlalchemy


@pytest.fixture
def owner(database: Database) -> Iterator[AuditLog]:
    """A log with the roles."""
    log = AuditLog(database.text_url())
    log.upgrade(roles=LogRoles())
    yield log
    log.close()


@pytest.fixture
def login(database: Database, owner: AuditLog) -> Iterator[Callable[[str], AuditLog]]:
    """Opens the log with a login of its own, that has one role."""
    made: list[tuple[str, AuditLog]] = []

    def make(role: str) -> AuditLog:
        name = f"{role}_{database.name}"
        database.server.administer(f"CREATE ROLE {name} LOGIN PASSWORD 'pw' IN ROLE {role}")
        made.append((name, AuditLog(database.text_url(user=name, password="pw"))))
        return made[-1][1]

    yield make
    for name, log in made:
        log.close()
        database.server.administer(f"DROP ROLE {name}")


def test_each_does_its_work(owner: AuditLog, login: Callable[[str], AuditLog]) -> None:
    """A writer hands over, a sequencer sequences and signs, an auditor reads: with their own credentials."""
    writer = LogSink(login("lacre_writer"), STAMP)
    sequencer, auditor = login("lacre_sequencer"), login("lacre_auditor")
    clock = Clock(1_793_491_199.0)  # the last second of a month
    for number in range(2):
        writer.append([searched(principal=f"svc:{number}")])
        sequencer_of(sequencer, clock).rest()
        clock.now += 2
    writer.append([])

    assert [each for each in told(auditor) if each.startswith("svc:")] == ["svc:0", "svc:1"]
    assert writer.newest() == clock.now - 2
    assert writer.known_policy() is None
    assert len(LogReader(auditor).tallies()) > 1
    check_signed(owner)


def test_a_detector_raises_and_sends_and_writers_share_budgets(
    owner: AuditLog, login: Callable[[str], AuditLog]
) -> None:
    """Alerts, what is due of them and marks of honeytokens are a detector's; what was spent of budgets is the writers'."""
    detector, spent = login("lacre_detector"), Spent("pii", "svc:app", 0, 4_000_000_000)
    AlertStore(detector, stamp=STAMP).raise_(finding())
    deliveries = Deliveries(detector, {"mail": Rules()})
    due = deliveries.take("mail")
    assert due is not None
    deliveries.delivered(due)
    honeytokens = HoneytokenStore(detector)
    honeytokens.add("heron", mark="ab" * 32, since=1)
    honeytokens.stands("heron", since=2)
    honeytokens.remove("heron")
    shared = SpentLooks(login("lacre_writer"))
    shared.add({spent: 3})

    assert honeytokens.all() == []
    assert deliveries.health()[0].waiting == 0
    assert shared.add({spent: 4}) == {spent: 7}


# What each role may not do, as SQL, beside what all may not.
FORBIDDEN = {
    "lacre_writer": [
        "SELECT entry FROM lacre_audit.lacre_leaf",
        "SELECT * FROM lacre_audit.lacre_inbox",
        "DELETE FROM lacre_audit.lacre_inbox",
        "UPDATE lacre_audit.lacre_inbox SET entry = ''",
        "INSERT INTO lacre_audit.lacre_leaf SELECT * FROM lacre_audit.lacre_leaf",
        "UPDATE lacre_audit.lacre_sequencer SET epoch = 9",
        "SELECT * FROM lacre_audit.lacre_alert",
    ],
    "lacre_sequencer": [
        "INSERT INTO lacre_audit.lacre_inbox (id, entry) VALUES ('', '')",
        "UPDATE lacre_audit.lacre_inbox SET entry = ''",
        "UPDATE lacre_audit.lacre_shard SET hold = NULL",
        "INSERT INTO lacre_audit.lacre_sequencer VALUES (2, 0, '', 0)",
        "DELETE FROM lacre_audit.lacre_tally",
        "DELETE FROM lacre_audit.lacre_tile",
        "UPDATE lacre_audit.lacre_alert SET state = 'acknowledged'",
    ],
    "lacre_detector": [
        "DELETE FROM lacre_audit.lacre_alert",
        "DELETE FROM lacre_audit.lacre_inbox",
        "UPDATE lacre_audit.lacre_sequencer SET epoch = 9",
    ],
    "lacre_auditor": [
        "INSERT INTO lacre_audit.lacre_inbox (id, entry) VALUES ('', '')",
        "UPDATE lacre_audit.lacre_alert SET state = 'acknowledged'",
        "UPDATE lacre_audit.lacre_sequencer SET epoch = 9",
    ],
}
NOBODY = [
    "UPDATE lacre_audit.lacre_leaf SET entry = ''",
    "UPDATE lacre_audit.lacre_leaf SET principal = ''",
    "DELETE FROM lacre_audit.lacre_leaf",
    "TRUNCATE lacre_audit.lacre_leaf",
    "UPDATE lacre_audit.lacre_checkpoint SET note = ''",
    "DELETE FROM lacre_audit.lacre_checkpoint",
    "DELETE FROM lacre_audit.lacre_touched",
    "DELETE FROM lacre_audit.lacre_shard",
    "UPDATE lacre_audit.lacre_log SET value = ''",
    "DROP TABLE lacre_audit.lacre_leaf",
    "CREATE TABLE lacre_audit.x (y int)",
]


@pytest.mark.parametrize("role", FORBIDDEN)
def test_nothing_beyond_it(
    owner: AuditLog, login: Callable[[str], AuditLog], database: Database, role: str
) -> None:
    """No role changes or removes a leaf, a checkpoint or what is about them, or does another's work."""
    login(role)
    with psycopg.connect(
        database.dsn(user=f"{role}_{database.name}", password="pw"), autocommit=True
    ) as connection:
        for statement in (*NOBODY, *FORBIDDEN[role]):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_a_login_without_a_role_is_told_which(
    owner: AuditLog, login: Callable[[str], AuditLog]
) -> None:
    """Who may not write is told that it is about a role of the log, and gets no word of an entry."""
    with pytest.raises(ConfigurationError, match="evidence log") as caught:
        LogSink(login("lacre_auditor"), STAMP).append([searched(principal="canary")])

    assert "writer for applications" in caught.value.hint
    assert "canary" not in repr(caught.value)


def test_a_verification_is_told_to_the_log_by_who_may(
    owner: AuditLog,
    login: Callable[[str], AuditLog],
    database: Database,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An auditor, who may only read, gets the same answers and leaves nothing; a detector leaves them in the inbox, with who verified."""
    answers, inboxes = [], []
    for role in ("lacre_auditor", "lacre_detector"):
        login(role)
        monkeypatch.setenv(
            "LACRE_AUDIT__URL", database.text_url(user=f"{role}_{database.name}", password="pw")
        )
        asked = ["audit", "verify", "--json", "--by", "user:ana", "-c", str(home / "lacre.toml")]
        found = CliRunner().invoke(app, asked)
        answers.append((found.exit_code, json.loads(found.stdout)["problems"]))
        with owner.reading() as connection:
            inboxes.append(
                [
                    json.loads(each)
                    for each in connection.execute(sa.select(INBOX.c.entry)).scalars()
                ]
            )
    (told,) = inboxes[1]

    assert answers[0] == answers[1]
    assert answers[0][0] == 11  # of a log with nothing in it
    assert inboxes[0] == []
    assert (told["action"], told["principal"], told["problems"]) == ("verification", "user:ana", 1)
    assert (told["integrity"], told["completeness"], told["anchored"]) == (
        "holds",
        "broken",
        "unasked",
    )


def test_upgrading_twice_changes_nothing(owner: AuditLog) -> None:
    """Roles and tables that are there are left as they are."""
    assert owner.upgrade(roles=LogRoles()) == (1, 1)
    with pytest.raises(ConfigurationError, match="four different"):
        LogRoles(writer="lacre_auditor")
