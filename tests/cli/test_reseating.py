# SPDX-License-Identifier: Apache-2.0
"""`lacre keys reseat`: the way back from a falsified memory of manifests, without a backup."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lacre import Lacre
from lacre.context import acting_as
from lacre.errors import Tampered
from lacre.keys.seen import SeenSerial
from lacre.stores.sql import SQLKeyStore

Run = Callable[..., subprocess.CompletedProcess[str]]


def opened(home: Path, sealed: object = None) -> object:
    """Encrypt, or decrypt *sealed*, as the application."""
    with Lacre.load(home / "lacre.toml", environ={}) as lacre, acting_as("t", roles={"app"}, purpose="p"):  # fmt: skip
        box = lacre.field("pii", table="t", column="c", type=str)
        return box.encrypt("x", row="1") if sealed is None else box.decrypt(sealed, row="1")  # type: ignore[arg-type]


@pytest.fixture
def blocked(home: Path) -> object:
    """A value, and a key store that remembers serials no manifest has, and a junk row."""
    sealed = opened(home)
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    for row in store.contents().seen:
        store.remember(replace(row, serial=2**31 - 1, mac=b"\x00"))
    store.remember(SeenSerial(kms_key="local://junk", serial=1, hash="a", version_id="b", mac=b""))
    store.close()
    with pytest.raises(Tampered):
        opened(home, sealed)
    return sealed


def seen(home: Path) -> dict[str, int]:
    store = SQLKeyStore(f"sqlite:///{home}/lacre/keys.db")
    try:
        return {row.kms_key: row.serial for row in store.contents().seen}
    finally:
        store.close()


def test_a_falsified_memory_is_made_anew(cli: Run, home: Path, blocked: object) -> None:
    """The application reads, keys rotate, junk is gone, and each key is in the evidence."""
    assert cli("keys", "rotate", "--class", "pii", "--kind", "kms").returncode == 6
    done = cli("keys", "reseat", "--yes")

    assert done.returncode == 0, done.stderr
    assert "put back" in done.stderr
    assert opened(home, blocked) == "x"
    names = {f"local://{path.stem}" for path in (home / "lacre" / "keystore").glob("*.json")}
    assert seen(home) == dict.fromkeys(names, 1)
    lines = map(json.loads, (home / "lacre" / "audit.jsonl").read_text().splitlines())
    told = [line for line in lines if line.get("state") == "reseated"]
    assert {line["key"] for line in told} == names
    assert {(line["action"], line["kind"], line["purpose"]) for line in told} == {("key", "kms", "reseat")}  # fmt: skip
    assert cli("keys", "rotate", "--class", "pii", "--kind", "kms").returncode == 0
    assert opened(home, blocked) == "x"


def test_it_has_to_be_asked_for(cli: Run, home: Path, blocked: object) -> None:
    """Without --yes the manifests are listed, and nothing changes."""
    before = seen(home)
    done = cli("keys", "reseat")

    assert done.returncode == 8
    assert "2147483647" in done.stdout
    assert seen(home) == before
    with pytest.raises(Tampered):
        opened(home, blocked)


def test_afterwards_a_roll_back_is_noticed_again(cli: Run, home: Path, blocked: object) -> None:
    """A manifest older than the one that was remembered anew is refused."""
    keystore = home / "lacre" / "keystore"
    shutil.copytree(keystore, home / "older")
    assert cli("keys", "reseat", "--yes").returncode == 0
    assert cli("keys", "rotate", "--class", "pii", "--kind", "kms").returncode == 0
    assert cli("keys", "reseat", "--yes").returncode == 0
    shutil.copytree(home / "older", keystore, dirs_exist_ok=True)

    with pytest.raises(Tampered):
        opened(home, blocked)


def test_only_the_operator_who_signs_does_it(cli: Run, home: Path, blocked: object) -> None:
    """Not the application's identity, and not a manifest that another one signed."""
    before = seen(home)
    config = home / "lacre.toml"
    text = config.read_text()
    config.write_text(text.replace("identities/operator.key", "identities/svc-app.key"))
    assert config.read_text() != text
    stranger = cli("keys", "reseat", "--yes")
    config.write_text(text)
    manifest = next((home / "lacre" / "keystore").glob("*.json"))
    manifest.write_text(manifest.read_text().replace('"serial":1', '"serial":2'))
    forged = cli("keys", "reseat", "--yes")

    assert (stranger.returncode, forged.returncode) == (5, 6), (stranger.stderr, forged.stderr)
    assert seen(home) == before
