# SPDX-License-Identifier: Apache-2.0
"""A deploy over what an earlier release wrote: processes warm before the upgrade, and started after it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.fields.column_state import ColumnState
from lacre.fields.scheme import Scheme
from lacre.keys.hierarchy import KeyKind
from lacre.readiness import Part, Status
from lacre.stores.schema import VERSION
from lacre.stores.sql import SQLKeyStore
from tests.test_releases import RELEASES


@pytest.fixture(params=RELEASES, ids=lambda path: path.name)
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what the release left, its key store as it was."""
    home = tmp_path / "released"
    shutil.copytree(request.param, home)
    for path in (home / "lacre" / "identities").iterdir():
        path.chmod(0o600)
    (home / "lacre" / "identities").chmod(0o700)
    return home


def opens(lacre: Lacre, written: list[dict[str, Any]]) -> list[Any]:
    """What the text column's values are, to this process."""
    box = lacre.field("pii", table="everything", column="str")
    with lacre.acting_as("svc:x", roles={"app"}, purpose="test"):
        return [box.decrypt(bytes.fromhex(item["binary"]), row=item["row"]) for item in written]


def test_processes_before_and_after_the_upgrade_agree(home: Path) -> None:
    """One that was warm before upgrade and rotation, and one that starts after them, read each other's values and the release's."""
    written = [
        item for item in json.loads((home / "values.json").read_text("ascii"))
        if item["column"] == "str" and "row" in item
    ]  # fmt: skip
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    if store.version() < VERSION:
        store.upgrade()
    dual = Scheme(class_="pii", store="main", table="people", column="cpf", python_type=str)
    with Lacre.load(home / "lacre.toml", environ={}) as before:
        before.warm_up(classes=["pii"])
        values = opens(before, written)
        store.upgrade()
        store.close()
        with (
            Lacre.load(
                home / "lacre.toml", environ={}, identity="lacre/identities/operator.key"
            ) as operator,
            operator.acting_as("operator", roles={"operator"}, purpose="test"),
        ):
            operator.provisioner.rotate(operator.scope("default", "pii", KeyKind.DATA))
        with Lacre.load(home / "lacre.toml", environ={}) as after:
            after.warm_up(classes=["pii"])
            with after.acting_as("svc:x", roles={"app"}, purpose="test"):
                fresh = after.field("pii", table="everything", column="str").encrypt("x", row="1")
            assert fresh is not None
            new = {"binary": bytes(fresh).hex(), "row": "1"}
            assert opens(after, written) == opens(before, written) == values
            assert opens(before, [new]) == opens(after, [new]) == ["x"]
            assert before.column_state(dual) is after.column_state(dual) is ColumnState.DUAL

    assert len(values) > 2


def test_readiness_says_which_keys_the_release_stopped(home: Path) -> None:
    """What was disabled and destroyed then is not ready now; the other classes are."""
    SQLKeyStore(f"sqlite:///{home}/lacre/keys.db").upgrade()
    with Lacre.load(home / "lacre.toml", environ={}) as lacre:
        report = lacre.ready()

    told = {check.subject: check.code for check in report.checks if check.part is Part.KEYS}
    assert told["pii"] == ""
    assert told["banking"] == "key-disabled"
    assert told["credentials"] == "key-destroyed"
    assert report.status is Status.FAIL
