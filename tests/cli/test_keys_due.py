"""`lacre keys due` tells people, programs and cron what is to be done."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from lacre.stores.sql import SQLKeyStore

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_nothing_due_is_silence_and_success(cli: Run) -> None:
    """Fresh keys: exit code 0, no data."""
    done = cli("keys", "due")
    as_json = cli("keys", "due", "--json")

    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing is due within 30 days" in done.stderr
    assert (as_json.returncode, json.loads(as_json.stdout)) == (0, [])


def test_what_is_due_has_an_exit_code_of_its_own(cli: Run, home: Path) -> None:
    """A class's own period, a disabled key and an announced root, in a table and as JSON."""
    config = home / "lacre.toml"
    config.write_text(
        config.read_text().replace("[classes.pii]\n", '[classes.pii]\nrotate_after = "20 days"\nrotate_index_after = "9 days"\n')
        .replace("[classes.banking]\n", '[classes.banking]\nrotate_after = "never"\n')
    )  # fmt: skip
    listed = json.loads(cli("keys", "list", "--class", "banking", "--json").stdout)
    data_key = next(row["key"] for row in listed if row["kind"] == "data")
    cli("keys", "disable", data_key[:8])
    cli("keys", "rotate", "--class", "payment", "--kind", "index")

    shown = cli("keys", "due")
    found = json.loads(cli("keys", "due", "--json").stdout)
    today = json.loads(cli("keys", "due", "--within", "0", "--json").stdout)

    assert shown.returncode == 10
    assert [(row["urgency"], row["class"], row["kind"]) for row in found] == [
        ("overdue", "banking", "data"),
        ("waiting", "payment", "index"),
        ("soon", "pii", "index"),
        ("soon", "pii", "branch"),
        ("soon", "pii", "data"),
    ]
    assert [row["urgency"] for row in today] == ["overdue", "waiting"]
    for row in found:
        assert row["do"] in shown.stderr
        assert row["why"] in shown.stdout
    assert found[0]["key"] == data_key


def test_it_needs_no_identity_and_changes_nothing(cli: Run, home: Path) -> None:
    """Without the operator's files it answers, and the key store is as it was."""
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    before = store.contents()
    for path in (home / "lacre" / "identities").iterdir():
        path.unlink()

    assert cli("keys", "due", "--within", "1000").returncode == 10
    assert store.contents() == before
    store.close()


def test_a_period_is_days_or_never(cli: Run, home: Path) -> None:
    """Anything else is a configuration error that says what it should be."""
    config = home / "lacre.toml"
    text = config.read_text()
    for wrong in ('"1 year"', "365", '"0 days"', '"-3 days"', '"365 days "', "false"):
        config.write_text(
            text.replace("[classes.pii]\n", f"[classes.pii]\nrotate_after = {wrong}\n")
        )
        done = cli("keys", "due")

        assert done.returncode == 3, wrong
        assert '"365 days"' in done.stderr
