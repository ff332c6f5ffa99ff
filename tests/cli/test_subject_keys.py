# SPDX-License-Identifier: Apache-2.0
"""`lacre keys` and subject keys: counted, due while they are under an older branch key, and taken over."""

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli.program import app
from lacre.keys import below
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
