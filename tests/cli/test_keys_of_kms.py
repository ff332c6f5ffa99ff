"""`lacre keys status` and `lacre keys cost` tell of the local keystore and of a described load."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from lacre import Lacre
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.stores.sql import SQLKeyStore

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_status_of_the_local_keystore(cli: Run, home: Path) -> None:
    """Version, serial and signer of each KMS key; the last use is the audit log's, and labelled so."""
    unused = json.loads(cli("keys", "status", "--class", "pii", "--json").stdout)
    with (
        Lacre.load(home / "lacre.toml", environ={}) as lacre,
        lacre.acting_as("t", roles={"app"}, purpose="p"),
    ):
        lacre.field("pii", table="t", column="c", type=str).encrypt("x", row="1")
    cli("keys", "rotate", "--class", "pii", "--kind", "kms")

    told = cli("keys", "status", "--class", "pii", "--json")
    shown = cli("keys", "status", "--class", "pii")
    found = {each["kms_key"]: each for each in json.loads(told.stdout)}

    assert (told.returncode, shown.returncode) == (0, 0), told.stderr
    assert set(found) == {"local://pii-fields", "local://pii-index"}
    fields = found["local://pii-fields"]
    assert (fields["state"], fields["version"], fields["keys"]) == ("active", 2, 1)
    assert fields["policy"].startswith("serial 2, signed by operator")
    assert fields["attention"] == []
    assert {each["last_use"] for each in unused} == {None}
    assert fields["last_use"] is not None
    assert fields["last_use_from"] == "the audit log"
    assert "by the audit log" in shown.stdout
    assert "nothing needs attention" in shown.stderr


def test_status_says_what_needs_attention(cli: Run, home: Path) -> None:
    """A manifest that is gone: exit code 10, the key named, the next step on stderr."""
    (home / "lacre" / "keystore" / "pii-index.json").unlink()

    shown = cli("keys", "status")
    found = {each["kms_key"]: each for each in json.loads(cli("keys", "status", "--json").stdout)}

    assert shown.returncode == 10
    assert "next:" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert found["local://pii-index"]["attention"]
    assert found["local://pii-fields"]["attention"] == []


def test_cost_of_a_described_load(cli: Run) -> None:
    """Defaults are lacre.toml's and the key store's; prices and load may be given; JSON is the same."""
    shown = cli("keys", "cost", "--tenants", "500", "--processes", "8", "--values-per-second", "2000")  # fmt: skip
    as_json = json.loads(cli("keys", "cost", "--json").stdout)
    dearer = json.loads(cli("keys", "cost", "--price-per-10000", "0.3", "--json").stdout)

    assert shown.returncode == 0
    assert "28,000" in shown.stdout
    assert "420,000.0" in shown.stdout
    assert "us-east-1" in shown.stderr
    load = as_json["load"]
    assert (load["tenants"], load["classes"], load["indexed"], load["kms_keys"]) == (1, 4, 3, 7)
    assert load["age"] == 300
    assert dearer["total"]["dollars"] / as_json["total"]["dollars"] > 9.9
    assert dearer["prices"]["source"] == "the prices given"


def test_rewrap_has_nothing_to_do_after_init(cli: Run) -> None:
    """Fresh keys are under the newest version; after a KMS rotation they are not, until rewrapped."""
    fresh = json.loads(cli("keys", "rewrap", "--json").stdout)
    cli("keys", "rotate", "--class", "pii", "--kind", "kms")
    planned = cli("keys", "rewrap", "--dry-run")
    done = cli("keys", "rewrap")
    wrong = cli("keys", "rewrap", "--from", "local://pii-fields")

    assert (fresh["moved"], fresh["renewed"], fresh["current"]) == (0, 0, 7)
    assert "1  local://pii-fields -> local://pii-fields" in planned.stdout
    assert "0 keys moved, 2 renewed" in done.stdout
    assert (planned.returncode, done.returncode, wrong.returncode) == (0, 0, 3)
    assert "{class}" in wrong.stderr


def test_what_somebody_wrote_into_a_row_does_not_command_the_terminal(cli: Run, home: Path) -> None:
    """Escapes and line breaks of a planted row are shown as such: it hides no other from whoever looks."""
    trap = "openbao://x/\x1b[2K\x1b[1A\nlocal://pii-index\u202e"
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        store = cast(SQLKeyStore, lacre.store)
        root = next(row for row in store.rows() if row.scope.kind is KeyKind.INDEX)
        planted = replace(root, key_id=b"p" * 16, version=9, parent=trap, state=KeyState.PENDING, revision=1, mac=None)  # fmt: skip
        store.change(add=[planted])
    listed, left = cli("keys", "list"), cli("keys", "rewrap", "--dry-run")

    assert left.returncode == 10
    assert "\\x1b[2K\\x1b[1A\\nlocal://pii-index\\u202e: wrapped by" in left.stdout
    assert "if you do not know it, somebody wrote these rows" in left.stderr
    for output in (listed.stdout, listed.stderr, left.stdout, left.stderr):
        assert not {"\x1b", "\u202e"} & set(output)
    assert sum(line.startswith("local://") for line in listed.stdout.splitlines()) == 0
