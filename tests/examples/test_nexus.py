# SPDX-License-Identifier: Apache-2.0
"""The example does what its source wanted, over HTTP, on a real PostgreSQL, and shows nothing else."""

import asyncio
import base64
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from argon2 import PasswordHasher
from nexus.passwords import Passwords
from sqlalchemy import select

from lacre import acting_as
from lacre.bulk import BulkReader
from tests.components.processes import environment, free_port
from tests.examples.conftest import EXAMPLES, PASSWORD, Nexus, User, looks_at

CPF = Callable[[], str]


def written(cpf: str) -> str:
    """As people write it."""
    return f"{cpf[:3]}.{cpf[3:6]}.{cpf[6:9]}-{cpf[9:]}"


def address() -> str:
    return f"p{uuid4().hex[:12]}@example.org"


def test_a_person_signs_up_sees_changes_and_clears_their_data(nexus: Nexus, cpf: CPF) -> None:
    """Null clears a field, a field that is left out stays, and one's own page shows values."""
    email, number = address(), written(cpf())
    nexus.sign_up(email, cpf=number, phone="+55 11 98765 4321", born="1990-05-01")

    first = nexus.ask("GET", "/me", email).json()
    changed = nexus.ask(
        "PATCH", "/me", email, json={"phone": None, "address": "Rua das Flores, 12"}
    )
    second = nexus.ask("GET", "/me", email).json()

    assert (first["cpf"], first["phone"], first["born"]) == (number, "+55 11 98765 4321", "1990-05-01")  # fmt: skip
    assert changed.status_code == 204
    assert second == first | {"phone": None, "address": "Rua das Flores, 12"}


def test_staff_finds_by_cpf_however_it_is_written(nexus: Nexus, cpf: CPF) -> None:
    """Support sees masks, in a search and in the record; an administrator sees the record's values."""
    number = cpf()
    person = nexus.sign_up(address(), cpf=written(number), name="Bruna Costa")
    found = [
        nexus.ask("POST", "/users/search", who, json={"cpf": asked}).json()["users"]
        for who in ("support", "admin")
        for asked in (number, written(number))
    ]
    to_support = nexus.ask("GET", f"/users/{person}", "support").json()
    to_admin = nexus.ask("GET", f"/users/{person}", "admin", headers={"X-Purpose": "fraud"}).json()

    for (one,) in found:
        assert (one["id"], one["name"]) == (str(person), "B. C.")
        assert one["cpf"] == f"***.***.{number[6:9]}-**"
    assert (to_support["name"], to_support["cpf"]) == ("B. C.", f"***.***.{number[6:9]}-**")
    assert (to_admin["name"], to_admin["cpf"]) == ("Bruna Costa", written(number))
    assert nexus.ask("POST", "/users/search", "admin", json={"cpf": cpf()}).json()["users"] == []


def test_an_administrator_finds_by_a_part_of_a_name(nexus: Nexus) -> None:
    """
    Anywhere in it, without regard to case and accents, page by page.

    Support, who may not read names, is refused; two letters are too few.
    """
    people = {str(nexus.sign_up(address(), name=f"Íris Araújo Quintela {n}")) for n in "abc"}
    nexus.sign_up(address(), name="Iris Quintana")
    found = [
        {one["id"] for one in nexus.ask("POST", "/users/search", "admin", json={"name": part}).json()["users"]}
        for part in ("ujo QUINT", "araujo quintela", "tela b", "zzzz")
    ]  # fmt: skip
    pages = []
    after = None
    for _ in range(3):
        asked = {"name": "araújo quin", "limit": 1} | ({"after": after} if after else {})
        page = nexus.ask("POST", "/users/search", "admin", json=asked).json()
        pages += [one["id"] for one in page["users"]]
        after = page["after"]
    denied = nexus.ask("POST", "/users/search", "support", json={"name": "quintela"})
    short = nexus.ask("POST", "/users/search", "admin", json={"name": "qu"})

    assert found[0] == found[1] == people
    assert found[2] < people
    assert len(found[2]) == 1
    assert found[3] == set()
    assert (set(pages), len(pages), after) == (people, 3, None)
    assert (denied.status_code, denied.json()["code"]) == (403, "access-denied")
    assert (short.status_code, short.json()["code"]) == (422, "unsupported-query")


def test_the_database_decides_who_of_twenty_has_a_cpf(nexus: Nexus, cpf: CPF) -> None:
    """Twenty requests with one CPF at once: one is answered 201, nineteen 409, and one row is there."""
    number = cpf()
    start = threading.Barrier(20)

    def sign_up(n: int) -> int:
        told = {"email": f"{n}{address()}", "password": PASSWORD, "name": "Ana", "cpf": number}
        start.wait()
        return nexus.http.post("/users", json=told).status_code

    with ThreadPoolExecutor(20) as pool:
        answers = Counter(pool.map(sign_up, range(20)))
    found = nexus.ask("POST", "/users/search", "admin", json={"cpf": number}).json()["users"]

    assert answers == {201: 1, 409: 19}
    assert len(found) == 1


def test_a_change_to_what_another_has_is_refused(nexus: Nexus, cpf: CPF) -> None:
    """A CPF cannot be taken over by a change either, and the answer does not hold it."""
    number, email = cpf(), address()
    nexus.sign_up(address(), cpf=number)
    nexus.sign_up(email)

    answer = nexus.ask("PATCH", "/me", email, json={"cpf": number})

    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate-value")
    assert number not in answer.text
    assert nexus.ask("GET", "/me", email).json()["cpf"] is None


def test_pages_hold_everybody_once_while_others_sign_up(nexus: Nexus) -> None:
    """Going from page to page, nobody who was there is left out or comes twice."""
    there = {str(nexus.sign_up(address())) for _ in range(5)}
    seen: list[str] = []
    after = None
    while True:
        asked = {"limit": 3} | ({"after": after} if after else {})
        page = nexus.ask("GET", "/users", "support", params=asked).json()
        seen += [user["id"] for user in page["users"]]
        after = page["after"]
        if after is None:
            break
        nexus.sign_up(address())

    assert len(seen) == len(set(seen))
    assert there <= set(seen)
    assert seen == sorted(seen)


def test_the_access_report_says_who_looked_as_what_and_why(nexus: Nexus, cpf: CPF) -> None:
    """One's report has one's data and each access to it; nobody else's, and no employee's name."""
    email, other = address(), address()
    person, number = nexus.sign_up(email, cpf=cpf()), cpf()
    nexus.sign_up(other, cpf=number)
    for who in ("support", "support", "admin"):
        purpose = "fraud" if who == "admin" else "support call"
        nexus.ask("GET", f"/users/{person}", who, headers={"X-Purpose": purpose})

    report = nexus.ask("GET", "/me/report", email).json()
    told: Counter[tuple[str, ...]] = Counter()
    for look in report["looks"]:
        if look["field"] == "cpf":
            how = (look["by"], *look["roles"], look["purpose"], look["outcome"])
            told[(look["what"], *how)] += look["times"]

    assert told == {
        ("written", "svc:nexus", "registration", "registration", "allowed"): 1,
        ("read", "staff", "support", "support call", "masked"): 2,
        ("read", "staff", "admin", "fraud", "allowed"): 1,
        ("read", "yourself", "person", "access report", "allowed"): 1,
    }
    assert report["complete"] is True
    assert report["account"]["id"] == str(person)
    assert report["data"]["email"] == email
    assert number not in json.dumps(report)


def test_the_access_report_tells_of_bulk_readings(nexus: Nexus) -> None:
    """Data that left in bulk was used as well: each column, by whom and what for."""
    email, other = address(), address()
    person = nexus.sign_up(email)
    nexus.sign_up(other)
    reader = BulkReader(
        config=nexus.home / "lacre.toml",
        database=nexus.database.text_url(),
        environ=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    with acting_as("svc:churn", roles={"support"}, purpose="fraud"):
        reader.to_arrow(select(User.name, User.phone, User.role).where(User.id == person), rows=1)
    reports = [nexus.ask("GET", "/me/report", who).json()["looks"] for who in (email, other)]
    told, others = (
        [(look["field"], look["roles"], look["purpose"], look["outcome"], look["times"])
         for look in looks if look["by"] == "svc:churn"]
        for looks in reports
    )  # fmt: skip

    assert told == [(field, ["support"], "fraud", "masked", 1) for field in ("name", "phone")]
    assert others == []


def test_who_asks_to_be_erased_is_told_since_when(nexus: Nexus) -> None:
    """Asking twice is asking once; the request is kept for the operator."""
    email = address()
    person = nexus.sign_up(email)
    first, second = (nexus.ask("DELETE", "/me", email) for _ in range(2))
    with nexus.database.connect() as connection:
        kept = connection.execute("SELECT done FROM erasure_requests WHERE user_id = %s", (person,))
        assert kept.fetchall() == [(None,)]

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json() == second.json()


def test_an_employee_is_named_where_the_service_is_told_to(nexus: Nexus) -> None:
    """With `NEXUS_NAME_STAFF` a report says who of the staff it was."""
    email = address()
    person = nexus.sign_up(email)
    nexus.ask("GET", f"/users/{person}", "support")
    nexus.ask("GET", "/me/report", email)  # what was held in memory is written by now
    claims = nexus.token("support").split(".")[1]
    support = json.loads(base64.urlsafe_b64decode(claims + "=="))["sub"]
    pseudonym = nexus.pseudonym(person)

    told = [
        {look.by for look in looks_at(path, person, pseudonym=pseudonym, name_staff=named)[0]}
        for path in [nexus.home / "lacre" / "audit.jsonl"]
        for named in (False, True)
    ]

    assert told == [
        {"svc:nexus", "yourself", "staff"},
        {"svc:nexus", "yourself", f"user:{support}"},
    ]


REFUSED = [
    ("GET", "/users", "person", 403),
    ("GET", "/users", "", 401),
    ("GET", "/me", "", 401),
    ("PATCH", "/users/{person}", "support", 403),
    ("PATCH", "/users/{person}", "person", 403),
    ("GET", "/users/{person}", "person", 403),
    ("GET", "/users/00000000-0000-4000-8000-000000000000", "admin", 404),
]


@pytest.mark.parametrize(("method", "path", "who", "status"), REFUSED)
def test_who_may_not_is_told_so_and_nothing_else(
    nexus: Nexus, method: str, path: str, who: str, status: int
) -> None:
    """Each route is for its roles; the answer is a problem with a code."""
    email = address()
    person = nexus.sign_up(email)
    headers = {"X-Purpose": "fraud"}
    sent = {"json": {"phone": None}} if method == "PATCH" else {}
    answer = nexus.ask(
        method,
        path.format(person=person),
        email if who == "person" else who,
        headers=headers,
        **sent,
    )

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


def test_a_purpose_is_one_of_the_routes(nexus: Nexus) -> None:
    """Staff says why, and curiosity is no reason."""
    for purpose in ("curiosity", ""):
        answer = nexus.ask("GET", "/users", "admin", headers={"X-Purpose": purpose})

        assert answer.status_code == 422


def test_a_wrong_password_and_no_account_are_answered_alike(nexus: Nexus) -> None:
    """Neither says whether there is an account."""
    email = address()
    nexus.sign_up(email)
    answers = [
        nexus.http.post("/tokens", json={"email": who, "password": "wrong"})
        for who in (email, address())
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content


def test_a_weak_hash_is_made_anew_at_the_next_login(nexus: Nexus) -> None:
    """A password whose hash was cheap is hashed as today's are, once."""
    email = address()
    person = nexus.sign_up(email)
    cheap = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)

    def kept(new: str | None = None) -> str:
        with nexus.database.connect() as connection:
            if new is not None:
                connection.execute("UPDATE users SET password_hash = %s WHERE id = %s", (new, person))  # fmt: skip
            found = connection.execute("SELECT password_hash FROM users WHERE id = %s", (person,))
            return str(found.fetchone()[0])  # type: ignore[index]

    strong, weak = kept(), kept(cheap)
    nexus.token(email)

    assert weak == cheap
    assert kept() not in (cheap, strong)
    assert kept().startswith("$argon2id$v=19$m=2048,t=2,p=1$")  # of `tests.examples.served`


def test_a_hash_is_as_costly_as_argon2_advises() -> None:
    """Outside these tests: 64 MiB, three rounds, four lanes."""
    passwords = Passwords()
    made = asyncio.run(passwords.hash(PASSWORD))
    passwords.close()

    assert made.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpf": "529.982.247-26"},
        {"cpf": "canary"},
        {"name": ""},
        {"born": "canary"},
        {"email": "canary"},
        {"password": "canary"},
        {"canary": 1},
    ],
)
def test_what_does_not_fit_is_refused_and_not_repeated(nexus: Nexus, wrong: Any) -> None:
    """The answer says where and which rule; a CPF's check digits are lacre's to refuse."""
    told = {"email": address(), "password": PASSWORD, "name": "Ana"} | wrong
    answer = nexus.http.post("/users", json=told)

    assert answer.status_code == 422
    assert answer.json()["code"] in ("invalid-request", "invalid-value")
    assert not any(str(value) in answer.text for value in wrong.values() if len(str(value)) > 1)


def test_a_name_is_not_cleared(nexus: Nexus) -> None:
    """A field without which there is nobody is changed, and never null."""
    email = address()
    nexus.sign_up(email)

    assert nexus.ask("PATCH", "/me", email, json={"name": None}).status_code == 422
    assert nexus.ask("PATCH", "/me", email, json={}).status_code == 204
    assert nexus.ask("GET", "/me", email).json()["name"] == "Ana Souza"


def test_no_value_is_in_the_database_the_evidence_or_a_log(nexus: Nexus, cpf: CPF) -> None:
    """Written, read, searched and refused; found in no dump of a table and no file of the service."""
    number, email = cpf(), "canary.person@example.org"
    planted = {
        "cpf": written(number),
        "phone": "+55 11 91234 8765",
        "address": "Canary Street 77",
        "born": "1971-03-04",
        "name": "Canary Person",
    }
    person = nexus.sign_up(email, **planted)
    nexus.ask("GET", "/me/report", email)
    nexus.ask("GET", f"/users/{person}", "support")
    nexus.ask("POST", "/users/search", "admin", json={"name": planted["name"]})
    nexus.ask("POST", "/users", json=planted | {"email": email, "password": PASSWORD})
    nexus.ask("POST", "/users/search", "admin", json={"cpf": number, "name": planted["name"]})
    with nexus.database.connect() as connection:
        (dump,) = connection.execute("SELECT string_agg(t::text, ' ') FROM users t").fetchone()  # type: ignore[misc]
    texts = {
        "table": dump,
        "evidence": nexus.evidence(),
        "uvicorn": nexus.log.read_text("utf-8"),
        "server": nexus.database.server.log(),
    }

    assert nexus.pseudonym(person) in texts["evidence"]
    assert str(person) in texts["table"]
    for place, text in texts.items():
        for value in (*planted.values(), number, email, PASSWORD):
            assert value not in text, (place, value)


def test_each_look_is_by_who_asked_under_concurrency(nexus: Nexus) -> None:
    """Two hundred requests of eight people and two employees at once: no row was looked at by another."""
    emails = [address() for _ in range(8)]
    people = {nexus.sign_up(email).hex: email for email in emails}
    persons = {nexus.pseudonym(UUID(person)): person for person in people}
    callers = [*emails, "support", "admin"]
    for who in callers:
        nexus.token(who)
    before = len(nexus.evidence().splitlines())

    def ask(who: str) -> int:
        if who in emails:
            return nexus.ask("GET", "/me", who).status_code
        row = random.choice(list(people))
        return nexus.ask("GET", f"/users/{row}", who).status_code

    with ThreadPoolExecutor(24) as pool:
        answers = Counter(pool.map(ask, random.choices(callers, k=200)))
    nexus.ask("GET", "/me/report", emails[0])  # what was held in memory is written by now
    looks = [
        event
        for event in map(json.loads, nexus.evidence().splitlines()[before:])
        if event["action"] == "look"
    ]
    own = [event for event in looks if event["purpose"] == "own data"]

    assert answers == {200: 200}
    assert len(own) >= 8
    for event in own:
        assert {f"user:{UUID(persons[n])}" for n in event["subjects"]} == {event["principal"]}
        assert event["roles"] == ["person"]
        assert event["rows"] == []
        assert (event["ip"], event["agent"]) == ("127.0.0.1", "nexus test")
    for event in looks:
        if event["purpose"] == "support call":
            assert event["outcome"] == {"support": "masked", "admin": "allowed"}[event["roles"][0]]


def test_nothing_is_shown_while_nothing_can_be_recorded(nexus: Nexus) -> None:
    """Without a place for evidence the answer is 503 and when to come back; then all is as before."""
    email = address()
    nexus.sign_up(email)
    nexus.token(email)
    log = nexus.home / "lacre" / "audit.jsonl"
    kept = log.rename(log.with_name("kept"))
    log.mkdir()
    try:
        refused = nexus.ask("GET", "/me/report", email)
    finally:
        log.rmdir()
        kept.rename(log)
    until = time.monotonic() + 30
    while nexus.ask("GET", "/me/report", email).status_code != 200:
        assert time.monotonic() < until

    assert (refused.status_code, refused.json()["code"]) == (503, "evidence-unavailable")
    assert refused.json()["retryable"] is True
    assert int(refused.headers["Retry-After"]) > 0
    assert email not in refused.text


def test_it_is_ready_and_alive(nexus: Nexus) -> None:
    """The probe is lacre's report, and names the encrypted columns."""
    report = nexus.http.get("/ready").json()

    assert report["status"] == "pass"
    assert {"users.cpf", "users.email"} <= {check.get("subject") for check in report["checks"]}
    assert nexus.http.get("/live").status_code == 200


def test_its_document_has_names_that_clients_can_use(nexus: Nexus) -> None:
    """Operations are called what they do, and the header of purposes says what it is."""
    operations = [
        operation
        for path in nexus.http.get("/openapi.json").json()["paths"].values()
        for operation in path.values()
    ]
    purposes = [
        parameter
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "X-Purpose"
    ]

    assert {"sign_up", "log_in", "search_users", "report_on_me", "erase_me"} <= {
        operation["operationId"] for operation in operations
    }
    assert len(purposes) == 4
    assert all("recorded" in parameter["description"] for parameter in purposes)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/live", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that PostgreSQL's user may enter, as `/tmp` is; pytest's are for nobody else."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.parametrize(
    ("end", "everybody"),
    [
        pytest.param(signal.SIGINT, True, id="Ctrl-C"),
        pytest.param(signal.SIGINT, False, id="SIGINT", marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, False, id="SIGTERM"),
    ],
)
def test_the_one_command_runs_it_and_leaves_nothing(
    public_directory: Path, end: signal.Signals, everybody: bool
) -> None:
    """
    `python -m nexus` says what to type, and when it is interrupted its files are gone.

    A terminal's Ctrl-C reaches the database's server as well.
    """
    root = EXAMPLES.parent
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "nexus", "--port", str(port)],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0,
        env=environment(
            PYTHONPATH=f"{root}:{root / 'src'}:{EXAMPLES}", TMPDIR=str(public_directory)
        ),
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = ""
        while "removes everything" not in told:
            line = process.stdout.readline()
            assert line, told
            told += line
        while not _answers(port):
            assert process.poll() is None
        (os.killpg if everybody else os.kill)(process.pid, end)
        rest, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()

    assert (process.returncode, rest.strip()) == (0, "")
    assert f"curl -sw '\\n' http://127.0.0.1:{port}/users" in told
    assert list(public_directory.iterdir()) == []
