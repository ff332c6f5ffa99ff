# SPDX-License-Identifier: Apache-2.0
"""`lacre keys` and subject keys: counted, due while they are under an older branch key, and taken over."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli.operator import as_operator
from lacre.cli.program import app
from lacre.cli.sealing import sealer_of
from lacre.errors import ConfigurationError, KeyNotFound, MisuseError, SubjectHeld, Tampered
from lacre.keys import below
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, SubjectRow, subject_digest
from lacre.keys.sealing import cover
from lacre.sqlalchemy import encrypted

runner = CliRunner()


class Base(DeclarativeBase): ...


class Note(Base):
    __tablename__ = "notes"
    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str] = encrypted("pii", subject="id")


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    done = runner.invoke(app, ["keys", *arguments, "--config", str(home / "lacre.toml")])
    return done.exit_code, done.stdout, done.stderr


def test_a_crowd_is_one_line_and_follows_its_branch_key(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed as a number; what a rotation leaves is due, and `rewrap --subjects` does it."""
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("pii", table="t", column="c", subject=True)
        with lacre.acting_as("svc", roles={"app"}, purpose="test"):
            sealed = box.encrypt_many([("1", "x")] * 40, subjects=list(range(40)))
    _, listed, _ = run(home, "list")
    _, described, _ = run(home, "list", "--json")
    assert listed.count("subject") == 1
    assert "40 keys" in listed
    assert [d["keys"] for d in json.loads(described) if d["kind"] == "subject"] == [40]
    assert run(home, "due")[0] == 0

    with monkeypatch.context() as patched:
        patched.setattr(
            below.Below, "take_over", lambda *_: below.TakenOver(moved=0, current=0, left=0)
        )
        assert run(home, "rotate", "--class", "pii", "--kind", "branch")[0] == 0
    code, due, told = run(home, "due")
    assert (code, "40 wrapped by an older branch key" in due) == (10, True)
    assert "lacre keys rewrap --subjects" in told
    code, _, told = run(home, "rewrap", "--subjects")
    assert (code, "wrapped 40 subject keys" in told) == (0, True)
    assert run(home, "due")[0] == 0
    code, _, told = run(home, "rotate", "--class", "pii", "--kind", "branch")
    assert (code, "wrapped 40 subject keys" in told) == (0, True)

    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        box = lacre.field("pii", table="t", column="c", subject=True)
        with lacre.acting_as("svc", roles={"app"}, purpose="test"):
            back = box.decrypt_many([("1", value) for value in sealed], subjects=list(range(40)))
    assert back == ["x"] * 40


def test_the_coverage_of_a_crowd_is_one_line(home: Path) -> None:
    """Values under keys of subjects are told together, with the number of keys; for a program too."""
    database = f"sqlite:///{home / 'notes.db'}"
    engine = sa.create_engine(database)
    Base.metadata.create_all(engine)
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        lacre.acting_as("svc", roles={"app"}, purpose="test"),
        lacre.sqlalchemy(sessionmaker(engine)).begin() as session,
    ):
        session.add_all(Note(id=str(number), text="x") for number in range(1, 31))
    engine.dispose()
    asked = ["reencrypt", "--coverage", "--models", f"{__name__}:Base", "--database", database]
    asked += ["--config", str(home / "lacre.toml")]

    listed = runner.invoke(app, asked).stdout
    [described] = json.loads(runner.invoke(app, [*asked, "--json"]).stdout)
    assert listed.count("notes  ") == 1
    assert "30 of subjects" in listed
    assert "notes.text: 100 % of 30 values" in listed
    [line] = described["keys"]
    assert (line["key"], line["subjects"], line["values"]) == (None, 30, 30)


def refused(home: Path, *arguments: str) -> BaseException | None:
    return runner.invoke(app, ["keys", *arguments, "--config", str(home / "lacre.toml")]).exception


@pytest.fixture
def sealed(home: Path) -> Path:
    """A home that seals, whose first epoch has begun."""
    with (home / "lacre.toml").open("a") as file:
        file.write('\n[sealing]\nkms_key = "local://seal"\nclasses = ["pii"]\n')
    seal(home)
    return home


def seal(home: Path) -> None:
    with as_operator(home / "lacre.toml", None, purpose="test") as operator:
        sealer_of(operator).seal()


def written(home: Path, subject: str) -> bytes:
    """A value of the subject, encrypted by a process that begins now."""
    with Lacre.load(home / "lacre.toml", environ={}) as lacre, lacre.acting_as("svc", roles={"app"}, purpose="test"):  # fmt: skip
        return bytes(lacre.field("pii", table="t", column="c", subject=True).encrypt("x", row="1", subject=subject))  # fmt: skip


def opened(home: Path, value: bytes, subject: str) -> str:
    with Lacre.load(home / "lacre.toml", environ={}) as lacre, lacre.acting_as("svc", roles={"app"}, purpose="test"):  # fmt: skip
        return str(lacre.field("pii", table="t", column="c", subject=True).decrypt(value, row="1", subject=subject))  # fmt: skip


def held(home: Path, subject: str) -> list[KeyRow]:
    """The versions of the subject's key, highest first."""
    with as_operator(home / "lacre.toml", None, purpose="test") as operator:
        scope = operator.lacre.scope("default", "pii", KeyKind.SUBJECT)
        digest = subject_digest(scope, subject)
        return list(operator.store.subjects(scope, [digest])[digest].versions)


def test_one_subjects_key_is_rotated(sealed: Path) -> None:
    """The version before decrypts on, what is written from now on is under the next, under the bucket key of now; a shredding ends both."""
    before = written(sealed, "ana")
    of_ana = ("--class", "pii", "--kind", "subject", "--subject", "ana")
    code, _, told = run(sealed, "rotate", *of_ana)
    assert (code, "version 2" in told, "lacre reencrypt" in told) == (0, True, True)
    after = written(sealed, "ana")
    new, old = held(sealed, "ana")
    assert [(row.version, row.state) for row in (new, old)] == [(2, KeyState.ACTIVE), (1, KeyState.DECRYPT_ONLY)]  # fmt: skip
    assert (before[3:19], after[3:19]) == (old.key_id, new.key_id)
    assert cover(new) == cover(old) or new.key_id[0] != old.key_id[0]
    seal(sealed)
    assert [opened(sealed, value, "ana") for value in (before, after)] == ["x", "x"]

    assert isinstance(refused(sealed, "rotate", *of_ana, "--unreadable"), MisuseError)
    assert isinstance(refused(sealed, "rotate", *of_ana[:-1], "bia"), KeyNotFound)
    assert isinstance(refused(sealed, "rotate", *of_ana[:-2]), ConfigurationError)


def test_what_is_planted_for_a_subject_blocks_nobody_for_ever(sealed: Path) -> None:
    """A first key that nobody made: it is refused, a rotation of the branch key passes it over, a sealing names it, and one command replaces it."""
    other = written(sealed, "bia")
    with as_operator(sealed / "lacre.toml", None, purpose="test") as operator:
        scope = operator.lacre.scope("default", "pii", KeyKind.SUBJECT)
        whose = SubjectRow(digest=subject_digest(scope, "ana"), pseudonym="0a" * 16, created="now")
        (real,) = operator.store.subject_keys_by_id(after=b"", limit=2)
        planted = replace(
            real, key_id=b"\x07" * 16, digest=whose.digest, scope=replace(real.scope, subject=whose.pseudonym)
        )  # fmt: skip
        operator.store.add_subjects([whose])
        operator.store.add_subject_keys([planted])
    with pytest.raises(Tampered):
        written(sealed, "ana")
    code, _, told = run(sealed, "rotate", "--class", "pii", "--kind", "branch")
    assert (code, f"key:{planted.key_id.hex()}" in told) == (0, True)
    assert run(sealed, "rewrap", "--subjects")[0] == 6
    assert opened(sealed, other, "bia") == "x"
    with pytest.raises(MisuseError, match=planted.key_id.hex()):
        seal(sealed)
    of_ana = ("--class", "pii", "--kind", "subject", "--subject", f"key:{planted.key_id.hex()}")
    stopped = refused(sealed, "rotate", *of_ana)
    assert isinstance(stopped, MisuseError)
    assert "--unreadable" in stopped.hint

    assert run(sealed, "rotate", *of_ana, "--unreadable")[0] == 0

    assert [row.state for row in held(sealed, "ana")] == [KeyState.ACTIVE, KeyState.DESTROYED]
    assert opened(sealed, written(sealed, "ana"), "ana") == "x"
    seal(sealed)
    assert run(sealed, "rewrap", "--subjects")[0] == 0


def test_a_held_subjects_key_is_not_replaced_unread(sealed: Path) -> None:
    """A backup may hold the right one."""
    written(sealed, "ana")
    with as_operator(sealed / "lacre.toml", None, purpose="test") as operator:
        (real,) = operator.store.subject_keys_by_id(after=b"", limit=2)
        damaged = replace(real, wrapped=(real.wrapped or b"")[:-1] + b"\0\0")
        operator.store.change(replace=[(real, damaged)])
        assert operator.store.hold_subject(real.digest or b"", hold="case 7", over=None)

    of_ana = ("--class", "pii", "--kind", "subject", "--subject", "ana", "--unreadable")
    assert isinstance(refused(sealed, "rotate", *of_ana), SubjectHeld)
    assert [row.state for row in held(sealed, "ana")] == [KeyState.ACTIVE]
