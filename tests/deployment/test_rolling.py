# SPDX-License-Identifier: Apache-2.0
"""Old and new processes run side by side, under what changes between two releases of a service."""

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lacre import Lacre
from lacre.errors import MisuseError
from lacre.keys.hierarchy import KeyKind
from lacre.stores.sql import SQLKeyStore
from tests.deployment.serving import Deployed

PEER = Path(__file__).with_name("peer.py")
AGE = 1.0  # seconds a cached key is used: as short as it can be


class Peer:
    """A process that does what it is told."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.started = self._answer()

    def __call__(self, verb: str, argument: Any = None) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, argument]) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            return {"ended": self.process.stderr.read()}
        return json.loads(line)


class Service:
    """The directory, keys and database that every process of the service shares."""

    def __init__(self, home: Path, deployed: Deployed) -> None:
        self.home = home
        self._deployed = deployed

    @contextmanager
    def peer(self, change: Callable[[str], str] = str) -> Iterator[Peer]:
        """Start a process whose `lacre.toml` is the service's, with *change* made to its text."""
        policy = (self.home / "lacre.toml").read_text(encoding="utf-8")
        directory = self.home / f"release-{time.monotonic_ns()}"
        directory.mkdir()
        (directory / "lacre.toml").write_text(change(policy), encoding="utf-8")
        lacre = self.home / "lacre"
        environ = self._deployed.environ | {
            "LACRE_CACHE__AGE": str(AGE),
            "LACRE_KEY_STORE__URL": f"sqlite:///{lacre / 'keys.db'}",
            "LACRE_LOCAL__DIRECTORY": str(lacre / "keystore"),
            "LACRE_LOCAL__IDENTITY": str(lacre / "identities" / "svc-app.key"),
            "LACRE_AUDIT__URL": f"sqlite:///{lacre / 'audit.db'}",
            "LACRE_AUDIT__PATH": str(lacre / "audit.jsonl"),
            "LACRE_AUDIT__IDENTITY": str(lacre / "identities" / "svc-audit.key"),
        }
        process = subprocess.Popen(
            [sys.executable, str(PEER)],
            cwd=directory, env=environ, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Peer(process)
        finally:
            process.kill()
            process.communicate()

    @contextmanager
    def operator(self) -> Iterator[Lacre]:
        """The operator, at a machine of their own."""
        with (
            Lacre.load(
                self.home / "lacre.toml",
                environ={"LACRE_CACHE__AGE": str(AGE)},
                identity="lacre/identities/operator.key",
            ) as lacre,
        ):
            yield lacre

    def rotate(self, kind: KeyKind) -> None:
        """Rotate a key of class pii."""
        with (
            self.operator() as lacre,
            lacre.acting_as("operator", roles={"operator"}, purpose="rotation"),
        ):
            lacre.provisioner.rotate(lacre.scope("default", "pii", kind))


@pytest.fixture(scope="module")
def service(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """Keys of its own, so that nothing else notices how they are rotated."""
    home = tmp_path_factory.mktemp("rolling") / "app"
    shutil.copytree(deployed.directory, home, ignore=shutil.ignore_patterns("broker", "*.log"))
    return Service(home, deployed)


@pytest.fixture(scope="module")
def old(service: Service) -> Iterator[Peer]:
    """The process that was there first, and stays."""
    with service.peer() as old:
        assert old.started == "started", old.started
        yield old


def test_a_data_key_is_rotated_under_both(service: Service, old: Peer) -> None:
    """Both read what either writes; the old process writes under the old version until its cache age is over."""
    first = old("write", "first@rolling.example")
    service.rotate(KeyKind.DATA)
    with service.peer() as new:
        second = new("write", "second@rolling.example")
        reads = [peer("read", row) for peer in (old, new) for row in (first, second)]
        time.sleep(AGE)
        third = old("write", "third@rolling.example")
        found = new("find", "third@rolling.example")

    assert reads == ["first@rolling.example", "second@rolling.example"] * 2
    assert old("key", first) != old("key", second)
    assert old("key", third) == old("key", second)
    assert found == third


def test_a_branch_key_is_rotated_under_both(service: Service, old: Peer) -> None:
    """Nobody notices."""
    before = old("write", "before@branch.example")
    service.rotate(KeyKind.BRANCH)
    with service.peer() as new:
        after = new("write", "after@branch.example")
        reads = [old("read", after), new("read", before)]

    assert reads == ["after@branch.example", "before@branch.example"]
    assert old("read", before) == "before@branch.example"


def test_an_index_root_is_announced_before_it_is_used(service: Service, old: Peer) -> None:
    """One cache age after the announcement every process finds what any of them writes, and no duplicate slips in."""
    under_first = old("write", "one@index.example")
    service.rotate(KeyKind.INDEX)
    with pytest.raises(MisuseError, match="announced"):
        service.rotate(KeyKind.INDEX)
    time.sleep(AGE + 1)  # a row's age is in whole seconds
    assert old("find", "one@index.example") == under_first
    service.rotate(KeyKind.INDEX)
    with service.peer() as new:
        under_second = new("write", "two@index.example")
        # At once: the old process has not heard of the activation, only of the announcement.
        found = [old("find", "two@index.example"), new("find", "one@index.example")]
        twice = [old("write", "two@index.example"), new("write", "one@index.example")]

    assert found == [under_second, under_first]
    assert [answer["error"] for answer in twice] == ["duplicate-value"] * 2


def test_a_right_that_was_taken_away_ends_with_the_last_old_process(
    service: Service, old: Peer
) -> None:
    """Each process decides by the file it was started with."""

    def without_search_and_decrypt(policy: str) -> str:
        changed = policy.replace(
            'rights.app = ["encrypt", "decrypt", "search"]', 'rights.app = ["encrypt"]'
        )
        assert changed != policy
        return changed

    row = old("write", "right@rolling.example")
    with service.peer(without_search_and_decrypt) as new:
        denied = [new("read", row), new("find", "right@rolling.example")]

    assert [answer["error"] for answer in denied] == ["access-denied"] * 2
    assert old("read", row) == "right@rolling.example"


def test_a_class_is_not_renamed(service: Service, old: Peer) -> None:
    """Under another name it has no keys: the error says so, and nothing is written in its place."""
    with service.peer(lambda policy: policy.replace("[classes.pii]", "[classes.personal]")) as new:
        renamed = new("encrypt", "personal")
        gone = new("encrypt", "pii")

    assert renamed["error"] == "key-not-found"
    assert "class 'personal'" in renamed["says"]
    assert gone["error"] == "configuration"
    assert old("encrypt", "pii") == "done"


def test_another_kms_key_in_the_file_is_refused_until_keys_are_under_it(service: Service) -> None:
    """The new process does not follow what the key store says, nor the other way round."""
    with service.peer(
        lambda policy: policy.replace(
            "[classes.pii]\n",
            '[classes.pii]\nfields = "local://banking-fields"\nindex = "local://pii-index"\n',
        )
    ) as new:
        answer = new("encrypt", "pii")

    assert answer["error"] == "configuration"
    assert "another KMS key than the policy names" in answer["says"]


def test_a_schema_upgrade_under_a_running_process(service: Service, old: Peer) -> None:
    """The process that runs goes on and warns; one of its release is not started again."""
    row = old("write", "schema@rolling.example")
    before = old("ready")
    keys = service.home / "lacre" / "keys.db"
    present = SQLKeyStore(f"sqlite:///{keys}").version()
    _set_schema(keys, present + 1)
    try:
        time.sleep(AGE)  # nothing is cached any more: it reads the upgraded store
        read, during = old("read", row), old("ready")
        with service.peer() as another:
            refused = another.started
    finally:
        _set_schema(keys, present)

    assert before[1]["status"] == "pass", before
    assert read == "schema@rolling.example"
    assert during[0] is True
    assert during[1]["status"] == "warn"
    assert during[1]["checks"][0]["part"] == "key_store"
    assert f"version {present + 1}, this release knows {present}" in refused["ended"]


def _set_schema(keys: Path, version: int) -> None:
    connection = sqlite3.connect(keys)
    with connection:
        connection.execute("UPDATE lacre_meta SET value = ? WHERE name = 'schema'", [str(version)])
    connection.close()
