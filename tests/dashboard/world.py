# SPDX-License-Identifier: Apache-2.0
"""
A made-up application to look at: keys, columns, a log of some thousand events, alerts.

Deterministic but for the keys; names of others in it are hostile on purpose where `HOSTILE` is
asked for. `docs/images` are taken of the world without them.
"""

import dataclasses
import datetime as dt
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from lacre._core.merkle import leaf_hash
from lacre.application import Lacre
from lacre.audit.controls.snapshot import Snapshot
from lacre.audit.detection.finding import Finding, Severity, fingerprint
from lacre.audit.entries import Entry, Stamp, written
from lacre.audit.event import Event, Outcome
from lacre.audit.events import Looked
from lacre.audit.keeping import Verification
from lacre.audit.leaves import Drawn, leaf_text
from lacre.audit.notes import Checkpoint, origin_of, sign_checkpoint
from lacre.cli.initialise import initialise
from lacre.context import Origin, acting_as
from lacre.dashboard.sources import Sources
from lacre.fields.column_state import ColumnState, move
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner
from lacre.stores.log.log import AuditLog
from lacre.stores.log.reader import Filters
from lacre.stores.log.schema import LEAF, TALLY
from lacre.stores.opening import open_key_store
from lacre.stores.schema import KEY
from tests.dashboard.snapshots import body
from tests.evidence.filling import COLUMNS, fill

__all__ = ["HOSTILE", "NOW", "STAMP", "World", "make_world"]

NOW = dt.datetime(2026, 11, 22, 15, 0, 40, tzinfo=dt.UTC)
STAMP = Stamp(app="shop", env="test", service="shop", code="4f2c1ab")
# What ends an attribute, opens a tag, runs the other way, and asks a template or a terminal to run.
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}\u202eevil\x1b[31m'--"

_POLICY = """
purposes = ["audit", "checkout", "fraud-review", "invoicing", "kyc", "nightly-export", "ticket"]
"""
_COLUMNS = {
    "customers.email": ("pii", "encrypted", "2026-09-30"),
    "customers.cpf": ("pii", "encrypted", "2026-09-30"),
    "customers.address": ("pii", "encrypted", "2026-10-31"),
    "customers.phone": ("pii", "dual", "2026-12-05"),
    "accounts.iban": ("banking", "encrypted", "2026-10-31"),
    "accounts.holder": ("banking", "dual", "2026-11-10"),
    "cards.number": ("payment", "encrypted", "2026-08-31"),
    "partners.token": ("credentials", None, "2027-01-31"),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The directory, what the dashboard shows of it, and the log."""

    home: Path
    sources: Sources
    log: AuditLog

    def close(self) -> None:
        self.sources.close()
        self.log.close()


def make_world(
    directory: Path, *, made: Path | None = None, url: str | None = None, events: int = 4000, days: int = 30, hostile: bool = False,
    progress: Callable[[int], None] = lambda loaded: None,
) -> World:  # fmt: skip
    """
    Make a world in *directory*.

    Args:
        made: a directory that `lacre init` made, to copy.
        url: of the log's database; a file of SQLite by default.
        progress: called with how many leaves are loaded.
    """
    home = directory / "world"
    if made is None:
        initialise(home, app="shop", env="test")
    else:
        shutil.copytree(made, home)
    _keys(home)
    identities = home / "lacre" / "identities"
    operator = Identity.load(identities / "operator.key")
    signer = IdentitySigner(Identity.load(identities / "svc-audit.key"))
    config = home / "lacre.toml"
    config.write_text(_policy(config.read_text(), url))
    log = AuditLog(url or f"sqlite:///{home}/lacre/world.db")
    app = re.search(r'^app = "(.*)"', config.read_text(), re.MULTILINE)[1]  # type: ignore[index]

    def note(shard: int, size: int, root: bytes) -> str:
        origin = origin_of(app, "test", shard)
        return sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), signer)

    fill(
        log,
        events=events,
        days=days,
        seed=7,
        end=NOW.replace(second=0),
        stamp=STAMP,
        note=note,
        progress=progress,
    )
    _verified(log, by=HOSTILE if hostile else "user:ines")
    if hostile:
        _hostile(log)
    snapshot = Snapshot.of(body(app, NOW))
    (home / "lacre" / "snapshots").mkdir()
    kept = home / "lacre" / "snapshots" / f"2026-11-22-{snapshot.sha256[:16]}.snapshot"
    kept.write_bytes(snapshot.signed(signer))
    _columns(home, operator)
    sources = dataclasses.replace(Sources.load(config, operator="operator"), now=lambda: NOW)
    _alerts(sources, hostile=hostile)
    return World(home=home, sources=sources, log=log)


def _policy(text: str, url: str | None) -> str:
    # Another log than the one that `lacre init` began: this one is filled.
    text = text.replace("sqlite:///lacre/audit.db", url or "sqlite:///lacre/world.db")
    text = text.replace("\n[key_store]", f"{_POLICY}\n[key_store]", 1)
    rights = "".join(f'rights.{role} = ["decrypt", "search"]\n' for role in ("compliance", "fraud"))
    for name in ("pii", "banking", "payment"):
        text = text.replace(f"[classes.{name}]\n", f'[classes.{name}]\n{rights}denied = "mask"\n')
    for name, (class_, _, deadline) in _COLUMNS.items():
        text += f'\n[columns."{name}"]\nclass = "{class_}"\ntarget = "encrypted"\ndeadline = {deadline}\n'  # fmt: skip
    return text


def _columns(home: Path, operator: Identity) -> None:
    store = open_key_store("sqlite:///lacre/keys.db", home)
    for name, (class_, state, _) in _COLUMNS.items():
        table, column = name.split(".")
        steps = {"encrypted": ("dual", "encrypted"), "dual": ("dual",)}.get(state or "", ())
        for step in steps:
            move(
                store, operator, keystore=store.keystore_id, store="main", table=table,
                column=column, class_=class_, to=ColumnState(step), changed="2026-09-01T10:00:00Z",
            )  # fmt: skip
    store.close()


def _keys(home: Path) -> None:
    with (
        Lacre.load(home / "lacre.toml", identity="lacre/identities/operator.key") as lacre,
        acting_as("operator", roles={"operator"}, purpose="provisioning"),
    ):
        for class_ in ("pii", "banking"):
            lacre.provisioner.rotate(lacre.scope("default", class_))
    # Pages say what rows say. That they are as old as this, their keys would not confirm.
    ages = {("pii", 1): 400, ("pii", 2): 40, ("banking", 1): 700, ("banking", 2): 130, ("payment", 1): 371, ("credentials", 1): 346}  # fmt: skip
    engine = sa.create_engine(f"sqlite:///{home}/lacre/keys.db")
    with engine.begin() as connection:
        for (class_, version), days in ages.items():
            connection.execute(
                sa.update(KEY)
                .where(KEY.c["class"] == class_, KEY.c.version == version)
                .values(created=(NOW - dt.timedelta(days=days)).isoformat())
            )
    engine.dispose()


def _alerts(sources: Sources, *, hostile: bool) -> None:
    positions = [
        (leaf.shard, leaf.seq)
        for leaf in sources.reader.page(Filters(without=frozenset({"heartbeat"})), limit=40)
    ]
    found = (
        ("slow-reader", Severity.HIGH, "user:06", "user:06 looked at 412 different rows of pii in 7 days, 9 times its own baseline", 412, 46),
        ("honeytoken-touched", Severity.CRITICAL, "svc:support-3", "svc:support-3 looked at a planted row of customers, which nobody has business with", 1, 0),
        ("outside-hours", Severity.MEDIUM, "user:12", "user:12 looked at payment at 03:12, outside the hours of its role", 3, 0),
        ("search-misses", Severity.LOW, "svc:fraud-9", "svc:fraud-9 searched cpf 40 times and found 2: somebody may be guessing", 38, 20),
    )  # fmt: skip
    if hostile:
        found += (("hostile", Severity.HIGH, HOSTILE, f"{HOSTILE} was seen", 1, 0),)
    for number, (rule, severity, who, summary, count, threshold) in reversed([*enumerate(found)]):
        sources.alerts.raise_(
            Finding(
                rule=rule,
                severity=severity,
                principal=who,
                fingerprint=fingerprint(rule, who),
                first=NOW - dt.timedelta(hours=number * 5 + 2),
                last=NOW - dt.timedelta(hours=number * 5 + 1),
                summary=summary,
                facts={"found": count, "threshold": threshold, "class": "pii"},
                evidence=tuple(sorted(positions[number * 5 : number * 5 + 5])),
            )
        )


def _verified(log: AuditLog, *, by: str) -> None:
    event = Verification(
        time=(NOW - dt.timedelta(hours=7)).timestamp(), principal=by, roles=("auditor",),
        purpose="evidence", tenant="", integrity="holds", completeness="holds",
        anchored="unasked", leaves=4000, problems=0,
    )  # fmt: skip
    _append(log, event)


def _hostile(log: AuditLog) -> None:
    # After everything that was signed: a stranger's request a minute ago.
    event = Looked(
        time=NOW.timestamp() - 60, principal=HOSTILE, roles=("support",), purpose=HOSTILE,
        tenant="default", origin=Origin(correlation="req-hostile", ip="192.0.2.7", agent=HOSTILE),
        place=COLUMNS[0], outcome=Outcome.ALLOWED, rule="classes.pii.rights.support", rows=("1",),
        count=1, key="",
    )  # fmt: skip
    _append(log, event)


def _append(log: AuditLog, event: Event) -> None:
    line = written(event, STAMP)
    drawn = Drawn.of(Entry.read(line))
    columns = {name.rstrip("_"): getattr(drawn, name) for name in Drawn.__slots__}
    columns = {name: value for name, value in columns.items() if name in LEAF.c}
    with log.writing() as connection:
        last = connection.execute(
            sa.select(LEAF.c.shard, LEAF.c.seq, LEAF.c.sequenced)
            .order_by(LEAF.c.shard.desc(), LEAF.c.seq.desc())
            .limit(1)
        ).one()
        sequenced = max(last.sequenced, drawn.time)
        connection.execute(
            sa.insert(LEAF).values(
                columns
                | {
                    "shard": last.shard, "seq": last.seq + 1, "id": bytes.fromhex(event.id),
                    "sequenced": sequenced, "entry": line, "hash": leaf_hash(leaf_text(sequenced, line)),
                }
            )
        )  # fmt: skip
        hour = drawn.time // 3_600_000_000 * 3_600_000_000
        connection.execute(
            sa.insert(TALLY).values(
                {name: columns.get(name, "") for name in ("principal", "action", "status", "class", "place")}
                | {"hour": hour, "purpose": event.purpose, "events": 1, "count": 1}
            )
        )  # fmt: skip
