# SPDX-License-Identifier: Apache-2.0
"""Snapshots and reports by the commands, of a shop in which something of everything happened."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lacre.audit.controls.scoring import assess
from lacre.audit.controls.snapshot import Snapshot
from lacre.errors import LacreError
from lacre.evidence import stamp_of
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner
from lacre.kms.signing import operators
from lacre.policy.loading import load_policy
from lacre.reporting.snapshots import read_snapshot
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import Filters, LogReader
from tests.calling import call
from tests.reporting.sample import body
from tests.stores.log.alerting import finding

MODELS = ("--models", "shop:Base", "--database", "sqlite:///shop.db")


def called(home: Path, *args: str, code: int = 0) -> str:
    """Run ``lacre ARGS``; return what it printed."""
    done = call(*args, cwd=home)
    assert done.returncode == code, done.stderr
    return done.stdout


@contextmanager
def log_of(home: Path) -> Iterator[AuditLog]:
    with closing(open_log(load_policy(home / "lacre.toml", {}), home)) as log:
        yield log


def kept_in(home: Path) -> list[Path]:
    return sorted((home / "lacre" / "snapshots").glob("*.snapshot"), key=lambda path: path.stat().st_mtime_ns)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The shop, what its first snapshot says, and the report of the second one."""

    home: Path
    first: Snapshot
    second: dict[str, Any]


@pytest.fixture(scope="module")
def reported(_shop_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Reported:
    """A drill, an alert, a rotation; a snapshot; the values moved; a report, beside two snapshots that do not count."""
    home = tmp_path_factory.mktemp("reported") / "shop"
    shutil.copytree(_shop_once, home)
    called(home, "keys", "drill", "keys-monday.dump")
    with log_of(home) as log:
        AlertStore(log, stamp=stamp_of(load_policy(home / "lacre.toml", {}))).raise_(finding())
    called(home, "keys", "rotate", "--class", "pii")
    said = called(home, "audit", "snapshot", *MODELS)
    (kept,) = kept_in(home)
    policy = load_policy(home / "lacre.toml", {})
    first = read_snapshot(kept, operators(policy))
    assert first.sha256 in said
    forged = kept.with_name(f"0{kept.name}")
    forged.write_bytes(kept.read_bytes().replace(b'"rotated":1', b'"rotated":9'))
    assert forged.read_bytes() != kept.read_bytes()
    elsewhere = Snapshot.of({**first.body, "env": "dev"})
    signer = IdentitySigner(Identity.load(home / "lacre/identities/operator.key"))
    kept.with_name("elsewhere.snapshot").write_bytes(elsewhere.signed(signer))
    called(home, "reencrypt", *MODELS, "--yes")
    second = json.loads(called(home, "audit", "report", "--format", "json", *MODELS))
    return Reported(home=home, first=first, second=second)


def test_values_are_counted_by_their_keys(reported: Reported) -> None:
    """With --models: those under the key of before, the day they are not, and none that was erased."""
    before, after = reported.first.body["coverage"], reported.second["evidence"]["coverage"]
    counted = {"compromised": 0, "unreadable": 0, "plaintext": 0, "table": "customers"}
    email = counted | {"column": "email", "class": "pii", "values": 2}
    account = counted | {
        "column": "account",
        "class": "banking",
        "values": 1,
        "active": 1,
        "older": 0,
    }

    assert before == [email | {"active": 0, "older": 2}, account]
    assert after == [email | {"active": 2, "older": 0}, account]


def test_erasures_are_gathered_with_their_certificates(reported: Reported) -> None:
    """The subject that was shredded, its certificate, that nobody can say yet when it is irrecoverable; and no name."""
    found = reported.first.body["erasures"]
    (certificate,) = found.pop("certificates")

    assert found == {
        "certified": 1,
        "open": 0,
        "overdue": 0,
        "late": 0,
        "held": 0,
        "irrecoverable": 0,
    }
    assert (certificate["verdict"], certificate["days"]) == ("pending", None)
    assert len(bytes.fromhex(certificate["certificate"])) == 32
    assert b"c-2" not in reported.first.line


def test_alerts_anchors_and_drills_are_gathered(reported: Reported) -> None:
    """What was raised and is open, how far the anchor confirms the log, that a restore was rehearsed today; and about nobody."""
    found = reported.first.body
    (alert,), (anchor,), (shard,) = found["alerts"], found["anchors"], found["log"]["shards"]

    assert (alert["rule"], alert["severity"], alert["state"]) == ("bulk-access", "high", "open")
    assert (alert["evidence"], alert["late"]) == ([[202611, 1]], False)
    assert b"svc:thief" not in reported.first.line
    assert b"user:eve" not in reported.first.line
    assert (anchor["anchor"], anchor["shard"]) == ("outside", shard["shard"])
    assert 0 < anchor["size"] == shard["anchored"] < shard["entries"]
    assert found["drills"]["days"] == 0
    assert found["log"]["verification"] == {
        "sound": True,
        "verified": shard["entries"],
        "findings": [],
    }
    assert (found["accesses"]["denied"], found["accesses"]["principals"]) == (1, 2)


def test_a_trend_is_made_of_the_files_that_are_kept(reported: Reported) -> None:
    """The second snapshot names the first with its score, and the change is that of the values; a forged one is no history, nor is another environment's of the same operator."""
    judged, report = assess(reported.first), reported.second
    (past,) = report["evidence"]["history"]
    second = assess(Snapshot.of(report["evidence"]))

    assert (past["snapshot"], past["tenths"]) == (reported.first.sha256, judged.tenths)
    assert second.change == second.tenths - judged.tenths > 0
    assert len(kept_in(reported.home)) == 4


def test_a_report_of_days_that_are_over_by_another_identity(reported: Reported) -> None:
    """--until ends with that day and has nothing of today; --identity signs and is recorded; a day that is not over is refused."""
    home, today = reported.home, dt.datetime.now(dt.UTC).date()
    options = ("--days", "7", "--no-verify", "--identity", "lacre/identities/svc-audit.key")
    yesterday = (today - dt.timedelta(days=1)).isoformat()
    made = json.loads(
        called(home, "audit", "report", "--format", "json", "--until", yesterday, *options)
    )
    early = call("audit", "report", "--until", today.isoformat(), *options, cwd=home)
    said = made["evidence"]
    with log_of(home) as log:
        entry = LogReader(log).page(Filters(action="report"), limit=1)[0].entry.members
    own = kept_in(home)[-1]

    assert said["period"] == {
        "since": f"{today - dt.timedelta(days=7)}T00:00:00Z",
        "until": f"{today}T00:00:00Z",
        "days": 7,
    }
    assert (said["accesses"]["entries"], said["erasures"]["certified"], said["alerts"]) == (
        0,
        0,
        [],
    )
    assert said["log"]["verification"] is None
    assert said["by"]["name"] == "svc:audit"
    assert (entry["principal"], entry["roles"], entry["snapshot"]) == (
        "svc:audit",
        ["auditor"],
        made["snapshot"]["sha256"],
    )
    with pytest.raises(LacreError):
        read_snapshot(own, operators(load_policy(home / "lacre.toml", {})))
    assert early.returncode == 8
    assert "not over" in early.stderr


def test_what_nobody_believed_signed_is_not_reported(reported: Reported, tmp_path: Path) -> None:
    """6 of what was changed, or is a stranger's; 3 of what is no snapshot, not there, or of another release. Nothing is printed."""
    home = reported.home
    signer = IdentitySigner(Identity.load(home / "lacre/identities/operator.key"))
    stranger = IdentitySigner(Identity.create("operator"))
    right = Snapshot.of(body())
    other = Snapshot.of(body(definition=body()["definition"] | {"registry": "00" * 32}))
    files = {
        "right": (right.signed(signer), 0),
        "changed": (right.signed(signer).replace(b'"searches":', b'"searchez":'), 6),
        "of a stranger": (right.signed(stranger), 6),
        "unsigned": (right.line + b"\n", 6),
        "no snapshot": (b"hello\n", 3),
        "another release": (other.signed(signer), 3),
    }
    found = {}
    for name, (data, _) in files.items():
        path = tmp_path / f"{name}.snapshot"
        path.write_bytes(data)
        done = call("audit", "report", "--snapshot", str(path), cwd=home)
        found[name] = (done.returncode, bool(done.stdout))
    missing = call("audit", "report", "--snapshot", str(tmp_path / "none"), cwd=home)

    assert found == {name: (code, code == 0) for name, (_, code) in files.items()}
    assert (missing.returncode, missing.stdout) == (3, "")
