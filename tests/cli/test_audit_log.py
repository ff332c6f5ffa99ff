"""`lacre audit sequence`, `status`, `tail` and `export`, and `lacre db upgrade` of a log."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from lacre import Lacre
from lacre.cli.program import app
from lacre.errors import ConfigurationError
from lacre.policy.loading import load_policy
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import LogReader
from tests.components.postgresql import Database

pytestmark = pytest.mark.any_sqlalchemy


def called(home: Path, *args: str, code: int = 0) -> str:
    """Run a command in this process; return what it printed."""
    result = CliRunner().invoke(app, ["audit", *args, "--config", str(home / "lacre.toml")])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def work(home: Path, *, seconds: int = 3, environ: dict[str, str] | None = None) -> None:
    """Look at a value some times, as an application does."""
    with Lacre.load(home / "lacre.toml", environ=environ or {}) as lacre:
        email = lacre.field("pii", table="customers", column="email", type=str)
        row = uuid4()
        with lacre.acting_as("user:ana", roles={"app"}, purpose="support"):
            sealed = email.encrypt("ana@example.org", row=row)
            for _ in range(seconds):
                email.decrypt(sealed, row=row)


def test_the_log_of_an_application(home: Path) -> None:
    """An application that ends leaves a log that rests, is signed to its end, and tells who looked."""
    work(home)
    status = json.loads(called(home, "status", "--json"))
    told = called(home, "tail", "--action", "look")
    lines = called(home, "export").splitlines()

    [shard] = status["shards"]
    assert (status["waiting"], status["attention"], status["sequencer"]["holder"]) == (0, [], "")
    assert shard["leaves"] == shard["signed"] == len(lines)
    assert "look  allowed  user:ana  main.customers.email  pii  count=3  purpose=support" in told
    entries = [json.loads(line)["entry"] for line in lines]
    assert [each["step"] for each in entries if each["action"] == "sequencing"][-2:] == [
        "began",
        "rested",
    ]
    shipped = [
        json.loads(line) for line in (home / "lacre" / "audit.jsonl").read_text().splitlines()
    ]
    logged = {each["id"]: each for each in entries}
    assert all(
        line
        == {
            name: value
            for name, value in logged[line["id"]].items()
            if name not in ("writer", "number")
        }
        for line in shipped
    )


def test_export_to_a_file(home: Path) -> None:
    """A table goes to a new file, and over no old one."""
    out = home / "evidence.csv"
    called(home, "export", "--format", "csv", "--action", "key", "-o", str(out))
    assert len(out.read_text().splitlines()) == 30

    with pytest.raises(ConfigurationError, match="there already"):
        called(home, "export", "-o", str(out))


def test_a_sequencer_apart(home: Path) -> None:
    """Where the sequencer is apart, entries wait until it comes; SIGTERM lets it rest."""
    apart = {"LACRE_AUDIT__SEQUENCER": "apart"}
    work(home, environ=apart)
    assert json.loads(called(home, "status", "--json", code=10))["waiting"] == 4
    process = subprocess.Popen(
        [sys.executable, "-m", "lacre.cli", "audit", "sequence"], cwd=home, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stderr is not None
        assert "sequencing" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    status = json.loads(called(home, "status", "--json"))

    assert (status["waiting"], status["sequencer"]["holder"]) == (0, "")
    assert "sequencing  rested" in called(home, "tail", "-n", "1")


def test_once(home: Path) -> None:
    """`--once` sequences what waits and rests; again, it leaves two entries of its own."""
    work(home, environ={"LACRE_AUDIT__SEQUENCER": "apart"})
    called(home, "sequence", "--once")
    log = open_log(load_policy(home / "lacre.toml", {}), home)
    first = LogReader(log).newest()
    called(home, "sequence", "--once")
    second = LogReader(log).newest()
    log.close()

    assert first is not None
    assert second is not None
    assert second.seq == first.seq + 2


def test_a_log_on_postgresql(home: Path, database: Database) -> None:
    """`lacre db upgrade` makes the log and its roles, and what is recorded then is in it."""
    config = home / "lacre.toml"
    text = config.read_text().replace("sqlite:///lacre/audit.db", database.text_url())
    config.write_text(text)
    with pytest.raises(ConfigurationError, match="no evidence log"):
        called(home, "status")
    result = CliRunner().invoke(app, ["db", "upgrade", "--roles", "--config", str(config)])
    assert result.exit_code == 0, result.output
    # It is another log than the one that this identity signed before: the operator says so.
    for signed in (home / "lacre" / "identities").glob("*.signed"):
        signed.unlink()
    work(home)

    assert json.loads(called(home, "status", "--json"))["waiting"] == 0
    assert "user:ana" in called(home, "tail")
