"""`lacre grant`: asked for, approved by two, in effect in the process and in the local keystore, and ended."""

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from lacre import Lacre
from lacre.cli.grants import opening
from lacre.errors import AccessDenied, KeyUnavailable, Tampered
from lacre.keys.hierarchy import KeyKind
from lacre.kms.local import Identity
from lacre.policy.grants.book import GrantBook
from lacre.stores.sql import SQLKeyStore
from tests.cli.conftest import Run

PEOPLE = ("ana", "rui", "zoe", "bia")


@pytest.fixture(scope="module")
def _granting(tmp_path_factory: pytest.TempPathFactory, _made_once: Path) -> Path:
    directory = tmp_path_factory.mktemp("grants") / "home"
    shutil.copytree(_made_once, directory)
    keys = directory / "people"
    keys.mkdir(mode=0o700)
    for name in PEOPLE:
        Identity.create(name).save(keys / f"{name}.key")
    config = directory / "lacre.toml"
    text = config.read_text()
    text = text.replace('[classes.banking]\n', '[classes.banking]\non_grant.support = ["decrypt"]\nbreak_glass = true\n')  # fmt: skip
    text += '\n[grants]\nage = 1\n[grants.break_glass]\n[principals."svc:app"]\nroles = ["app"]\n'
    text += '[principals."agent:eva"]\nroles = ["support"]\n'
    for name in PEOPLE:
        line = Identity.load(keys / f"{name}.key").public.to_text()
        text += (
            f'[principals."agent:bia"]\nroles = ["support"]\nlocal = "{line}"\n'
            if name == "bia"
            else f'[approvers."person:{name}"]\nidentity = "{line}"\nbreak_glass = {"true" if name == "zoe" else "false"}\n'
        )
    config.write_text(text)
    return directory


@pytest.fixture
def home(_granting: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "home"
    shutil.copytree(_granting, directory)
    return directory


def asked(cli: Run, *more: str, who: str = "agent:eva") -> str:
    done = cli("grant", "request", "--for", who, "--class", "banking", "--purpose", "case", "--reason", "case 7", *more)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def approve(cli: Run, grant: str, *names: str) -> list[int]:
    return [cli("grant", "approve", grant, "--yes", "--identity", f"people/{name}.key").returncode for name in names]  # fmt: skip


def standing(cli: Run, grant: str) -> str:
    return str(json.loads(cli("grant", "show", grant, "--json").stdout)["standing"])


def reads(lacre: Lacre, sealed: bytes, who: str = "agent:eva") -> str:
    box = lacre.field("banking", table="customers", column="account", type=str)
    with lacre.acting_as(who, roles={"support"}, purpose="case"):
        return str(box.decrypt(sealed, row="1"))


@pytest.fixture
def sealed(home: Path) -> bytes:
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("banking", table="customers", column="account", type=str)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="case"):
            return box.encrypt("0001-7", row="1")


def test_a_grant_from_asking_to_its_revocation(home: Path, cli: Run, sealed: bytes) -> None:
    """Masked before, read with two approvals, and masked again within the age of the list once it is revoked."""
    grant = asked(cli, "--lasts", "2 hours")
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        assert lacre.book is not None
        before = reads(lacre, sealed)
        codes = approve(cli, grant, "ana", "ana", "bia", "rui", "zoe")
        lacre.book.refresh()
        during = reads(lacre, sealed)
        explained = cli("policy", "explain", "--who", "agent:eva", "--class", "banking", "--purpose", "case")  # fmt: skip
        revoked = cli("grant", "revoke", grant[:14], "--reason", "closed")
        began = time.monotonic()
        while reads(lacre, sealed) == "0001-7":
            assert time.monotonic() - began < 30
            time.sleep(0.02)
    events = [json.loads(line) for line in (home / "lacre/audit.jsonl").read_text().splitlines()]
    steps = [
        each["step"] for each in events if each["action"] == "grant" and each["step"] != "used"
    ]
    used = [each["principal"] for each in events if each.get("step") == "used"]
    rules = [each["rule"] for each in events if each["action"] == "look"]

    assert before != "0001-7"
    assert during == "0001-7"
    assert codes == [0, 4, 4, 0, 4]
    assert f"grants.{grant}: decrypt" in explained.stdout
    assert "processes stop within 1 s" in revoked.stderr
    assert standing(cli, grant) == "revoked"
    assert steps == ["requested", "approved", "approved", "executed", "revoked"]
    assert f"grants.{grant}: decrypt" in rules
    assert used == ["agent:eva"]  # once, however often it was


def test_who_asked_does_not_approve(cli: Run) -> None:
    """Neither who asked nor whom lacre.toml does not know; and a revoked grant takes no approval."""
    grant = asked(cli, "--identity", "people/ana.key")

    assert approve(cli, grant, "ana") == [4]
    assert cli("grant", "approve", grant, "--yes").returncode == 4  # the operator administers keys
    assert cli("grant", "revoke", grant, "--reason", "x").returncode == 0
    assert approve(cli, grant, "rui") == [4]


def test_a_revocation_that_was_removed_does_not_come_back(
    home: Path, cli: Run, sealed: bytes
) -> None:
    """Whoever deletes the row of a revocation has not deleted it from the evidence."""
    grant = asked(cli)
    approve(cli, grant, "ana", "rui")
    cli("grant", "revoke", grant, "--reason", "closed")
    cli("audit", "sequence", "--once")
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    with store._writing() as connection:
        connection.exec_driver_sql("DELETE FROM lacre_grant_act WHERE act = 'revoke'")
    (record,) = store.grant_records()
    store.close()

    assert [str(each.act) for each in record.acts] == ["approve", "approve", "execute"]
    assert standing(cli, grant) == "revoked"
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        assert reads(lacre, sealed) != "0001-7"


def test_the_local_keystore_opens_for_a_grant_and_closes(home: Path, cli: Run, sealed: bytes) -> None:  # fmt: skip
    """A beneficiary with an identity of its own opens the keys with `apply`, and no key of before with a revocation."""
    grant = asked(cli, who="agent:bia")

    def bia() -> str:
        with Lacre.load(home / "lacre.toml", environ={}, identity="people/bia.key") as own:
            return reads(own, sealed, "agent:bia")

    approve(cli, grant, "ana", "rui")
    waiting = standing(cli, grant)
    applied = cli("grant", "apply", grant)
    again = cli("grant", "apply", grant)
    during = bia()
    revoked = cli("grant", "revoke", grant, "--reason", "closed")

    assert waiting == "approved"
    assert "bia may open local://banking-fields" in applied.stderr
    assert (again.returncode, "may open" in again.stderr) == (0, False)
    assert during == "0001-7"
    assert "a new version was made" in revoked.stderr
    with Lacre.load(home / "lacre.toml", environ={}, identity="people/bia.key") as own:
        rows = own.store.versions(own.scope("default", "banking", KeyKind.BRANCH))
        with pytest.raises((KeyUnavailable, Tampered)):
            own.services["local"].unwrap(rows[0].parent, rows[0].wrapped or b"", rows[0].wrap_context())  # fmt: skip
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("banking", table="customers", column="account", type=str)
        with lacre.acting_as("svc:app", roles={"app"}, purpose="case"):
            assert box.decrypt(sealed, row="1") == "0001-7"
    assert cli("grant", "reap").returncode == 0


def test_what_only_an_operator_can_end_is_reaped(home: Path, cli: Run) -> None:
    """Revoked by somebody who administers no keys, it is reported, and reaped by who does."""
    grant = asked(cli, who="agent:bia")
    approve(cli, grant, "ana", "rui")
    stranger = cli("grant", "apply", grant, "--identity", "people/zoe.key")
    before = (home / "lacre/keystore/banking-fields.json").read_bytes()
    cli("grant", "apply", grant)
    revoked = cli("grant", "revoke", grant, "--reason", "x", "--identity", "people/zoe.key")
    cannot = cli("grant", "reap", "--identity", "people/zoe.key")
    reaped = cli("grant", "reap")

    assert stranger.returncode == 5
    assert b'"serial":1,' in before  # nobody but an operator ever signs a manifest
    assert revoked.returncode == 10
    assert "still open" in revoked.stderr
    assert cannot.returncode == 10
    assert (reaped.returncode, "a new version was made" in reaped.stderr) == (0, True)


def test_break_glass_is_reviewed_by_somebody_else(
    cli: Run, sealed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One approver who may, at most an hour; overdue reviews are listed, and the check says so."""
    grant = asked(cli, "--break-glass")
    codes = approve(cli, grant, "ana", "zoe")
    review = ("grant", "review", grant, "--note", "seen")
    own = cli(*review, "--identity", "people/zoe.key")
    in_time = cli("grant", "list", "--check")
    # Four days later: [grants.break_glass] review_within is three.
    with monkeypatch.context() as later:
        later.setattr(opening, "time", SimpleNamespace(time=lambda: time.time() + 4 * 86_400))
        late = cli("grant", "list", "--check")
    other = cli(*review, "--identity", "people/rui.key")

    assert codes == [4, 0]
    assert (own.returncode, in_time.returncode) == (4, 0)
    assert late.returncode == 10
    assert f"break-glass {grant[:12]} was not reviewed in time" in late.stderr
    assert other.returncode == 0
    assert json.loads(cli("grant", "show", grant, "--json").stdout)["reviewer"] == "person:rui"


def test_nothing_is_in_effect_by_an_old_list_or_a_clock_set_back(home: Path, cli: Run) -> None:
    """Past its age the list gives nothing; with the clock behind what it saw, nothing; refreshed, it does."""
    grant = asked(cli)
    approve(cli, grant, "ana", "rui")
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        assert lacre.book is not None
        lacre.book.close()
        wall, steady = time.time(), 1000.0
        book = GrantBook(
            lacre.store,  # type: ignore[arg-type]
            lacre.book._make_rules,
            age=30,
            clock=lambda: wall,
            monotonic=lambda: steady,
        )
        book._closed = True  # no thread: this test turns the clocks
        acting = lacre.acting_as("agent:eva", roles={"support"}, purpose="case")
        with acting as who:
            cold = book.effective(who, "banking", "decrypt")
            book.refresh()
            fresh = book.effective(who, "banking", "decrypt")
            others = [book.effective(who, "pii", "decrypt"), book.effective(who, "banking", "encrypt")]  # fmt: skip
            steady += 30
            old = book.effective(who, "banking", "decrypt")
            book.refresh()
            wall -= 3600
            back = book.effective(who, "banking", "decrypt")
            wall += 3600 + 3600
            over = book.effective(who, "banking", "decrypt")

    assert fresh is not None
    assert fresh.id == grant
    assert [cold, *others, old, back, over] == [None] * 6


def test_a_reader_without_a_grant_is_denied(home: Path, sealed: bytes) -> None:
    """What nobody granted is masked or denied as before."""
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("banking", table="customers", column="account", type=str)
        with (
            lacre.acting_as("agent:eva", roles={"intake"}, purpose="case"),
            pytest.raises(AccessDenied),
        ):
            box.decrypt(sealed, row="1")


def test_a_grant_of_one_tenant_is_for_who_names_it(home: Path, cli: Run) -> None:
    """Whoever names another tenant, or none and so reads what rows name, has nothing of it."""
    approve(cli, asked(cli, "--tenant", "acme"), "ana", "rui")
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        assert lacre.book is not None
        found = []
        for tenant in ("acme", "other", None):
            with lacre.acting_as("agent:eva", roles={"support"}, purpose="case", tenant=tenant) as who:  # fmt: skip
                found.append(lacre.book.effective(who, "banking", "decrypt") is not None)

    assert found == [True, False, False]


def test_a_fork_asks_for_itself(home: Path, cli: Run) -> None:
    """A child of a fork has a thread of its own: what is revoked after the fork ends in it too."""
    grant = asked(cli)
    approve(cli, grant, "ana", "rui")
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        assert lacre.book is not None
        asking, said = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with lacre.acting_as("agent:eva", roles={"support"}, purpose="case") as who:
                    deadline = time.monotonic() + 60
                    before = lacre.book.effective(who, "banking", "decrypt")
                    os.write(said, b"x")
                    while lacre.book.effective(who, "banking", "decrypt") is not None:
                        if time.monotonic() > deadline:
                            break
                        time.sleep(0.02)
                    else:
                        code = 0 if before is not None else 2
            finally:
                os._exit(code)
        os.read(asking, 1)
        cli("grant", "revoke", grant, "--reason", "closed")
        _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
