# SPDX-License-Identifier: Apache-2.0
"""`lacre audit verify`, `prove`, `check`, `anchor`, `explain`, `hold`, `release` and `purge`."""

import json
import sqlite3
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lacre.cli.program import app
from lacre.errors import ConfigurationError, MisuseError, Tampered
from tests.cli.test_audit_log import work

pytestmark = pytest.mark.any_sqlalchemy


def called(*args: str, code: int = 0) -> str:
    """Run ``lacre audit`` in this process; return what it printed."""
    result = CliRunner().invoke(app, ["audit", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def sql(home: Path, *statements: str) -> None:
    with sqlite3.connect(home / "lacre" / "audit.db") as connection:
        for each in statements:
            connection.execute(each)
    connection.close()


@pytest.fixture
def worked(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An application's home after some looks, with an anchor outside; the commands find its lacre.toml."""
    config = home / "lacre.toml"
    config.write_text(
        config.read_text() + '\n[audit.anchors.outside]\nkind = "file"\npath = "outside.jsonl"\n'
    )
    monkeypatch.setenv("LACRE_CONFIG", str(config))
    work(home)
    return home


def test_verify_tells_three_things_apart(worked: Path) -> None:
    """A right log exits 0 and is kept; a changed entry exits 6, a missing one 11, one that was set back 12."""
    keep = worked / "auditor.json"
    called("anchor")
    right = json.loads(called("verify", "--json", "--keep", str(keep)))
    again = json.loads(called("verify", "--json", "--keep", str(keep)))
    whole = called("verify", "--full", "--keep", str(keep))
    first = dict(right)
    sql(
        worked,
        "CREATE TABLE spare AS SELECT * FROM lacre_leaf WHERE seq = 1",
        "UPDATE lacre_leaf SET principal = 'x' WHERE seq = 1",
    )
    changed = json.loads(called("verify", "--json", "--alert", code=6))
    with sqlite3.connect(worked / "lacre" / "audit.db") as connection:
        alerts = connection.execute("SELECT rule, facts FROM lacre_alert").fetchall()
    connection.close()
    sql(worked, "DELETE FROM lacre_leaf WHERE seq = 1")
    missing = json.loads(called("verify", "--json", code=11))
    sql(worked, "INSERT INTO lacre_leaf SELECT * FROM spare", "DROP TABLE spare")
    (worked / "outside.jsonl").write_text("")
    lost = json.loads(called("verify", "--json", code=12))

    assert (first["integrity"], first["completeness"], first["anchored"]) == (True, True, True)
    assert first["events"] > 5
    assert again["events"] == 0
    assert "confirmed by outside" in whole
    assert [(each["code"], each["seq"]) for each in changed["problems"]] == [("columns", 1)]
    assert [(rule, json.loads(facts)["kinds"]) for rule, facts in alerts] == [("log-tampered", {"integrity columns": 1})]  # fmt: skip
    assert [(each["code"], each["seq"]) for each in missing["problems"]] == [("gap", 1)]
    assert [each["code"] for each in lost["problems"]] == ["lost"]


def test_a_proof_is_checked_without_the_log(
    worked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the signer's public text are all that a check takes; a changed file exits 6."""
    look = json.loads(called("tail", "--action", "look", "--json").splitlines()[0])
    entry = look.get("entry", look)
    proof = tmp_path / "look.tlog-proof"
    called("prove", "--event", entry["id"], "--out", str(proof))
    signer = next(line for line in (worked / "lacre.toml").read_text().splitlines() if line.startswith("signers = ") and "svc:audit" in line).split('"')[1]  # fmt: skip
    size = json.loads(called("verify", "--json"))["shards"][0]
    with sqlite3.connect(worked / "lacre" / "audit.db") as connection:
        (old,) = connection.execute("SELECT min(size) FROM lacre_checkpoint").fetchone()
    connection.close()
    longer = tmp_path / "longer"
    called("prove", "--month", size["shard"], "--from", str(old), "--out", str(longer))
    monkeypatch.setenv("LACRE_CONFIG", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    checked = json.loads(called("check", str(proof), "--signer", signer, "--json"))
    (tmp_path / "signer.pub").write_text(signer + "\n")
    shown = called("check", str(longer), "--signer", "signer.pub")
    proof.write_text(proof.read_text().replace("index ", "index 1", 1))
    called("check", str(proof), "--signer", signer, code=6)

    assert checked["entry"] == entry
    assert f"the first {old} of" in shown


def test_a_month_is_held_and_released(worked: Path) -> None:
    """A hold is shown, counts in a verification, and is released once; nothing is purged before its term."""
    month = json.loads(called("verify", "--json"))["shards"][0]["shard"]
    called("hold", month, "--reason", "case 7")
    held = json.loads(called("verify", "--json"))
    shown = called("purge", "--really")
    called("release", month, "--reason", "case closed")
    with pytest.raises(MisuseError, match="not on hold"):
        called("release", month, "--reason", "again")
    with pytest.raises(ConfigurationError, match="2026-11"):
        called("hold", "november", "--reason", "x")

    assert held["shards"][0]["held"] is True
    assert "case 7" in shown
    assert json.loads(called("verify", "--json"))["shards"][0]["held"] is False


def test_2555_days_are_said_to_be_short(worked: Path) -> None:
    """A retention of 2555 days is taken, with the days it is short of seven years."""
    config = worked / "lacre.toml"
    config.write_text(
        config.read_text().replace("[audit]\n", '[audit]\nretention = "2555 days"\n', 1)
    )
    result = CliRunner().invoke(app, ["audit", "purge"])

    assert result.exit_code == 0
    assert "short of 7 years by 2 days" in result.stderr


def test_a_silence_is_explained(worked: Path) -> None:
    """A log that was set back is gone on with when the operator explained so; the silence that verification then names can be explained too, and is listed."""
    sql(worked, "DELETE FROM lacre_checkpoint WHERE size = (SELECT max(size) FROM lacre_checkpoint)", "UPDATE lacre_tally SET events = events - 1 WHERE action = (SELECT action FROM lacre_leaf ORDER BY seq DESC LIMIT 1)", "DELETE FROM lacre_leaf WHERE seq = (SELECT max(seq) FROM lacre_leaf)")  # fmt: skip
    config = worked / "lacre.toml"
    config.write_text(config.read_text().replace("[audit]\n", "[audit]\nheartbeat = 1\n", 1))
    time.sleep(2.2)
    with pytest.raises(Tampered):
        called("sequence", "--once")
    with pytest.raises(ConfigurationError, match="what was signed last is") as wrong:
        called("explain", "2026-11:1", "--about", "set-back", "--reason", "power cut")
    what = wrong.value.hint.split()[3]
    called("explain", what, "--about", "set-back", "--reason", "restored from a backup")
    assert len(list(worked.glob("lacre/identities/svc-audit.*.signed*"))) == 2
    work(worked)
    (problem,) = json.loads(called("verify", "--json", code=11))["problems"]
    called(
        "explain",
        problem["explain"]["what"],
        "--about",
        problem["explain"]["about"],
        "--reason",
        "restored from a backup",
    )
    verdict = json.loads(called("verify", "--json"))

    assert [each["explained"] for each in verdict["explained"]] == ["restored from a backup"]
