# SPDX-License-Identifier: Apache-2.0
"""`lacre keys` and subject keys: counted, due while they are under an older branch key, and taken over."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli.program import app
from lacre.keys import below

runner = CliRunner()


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
