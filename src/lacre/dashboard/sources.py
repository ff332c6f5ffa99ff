# SPDX-License-Identifier: Apache-2.0
"""
What pages are made of: the policy, the key store, the evidence log and its alerts.

Each is opened here and read by its own public names; no key is opened, and nothing is written but
the acknowledgement of an alert. Renders nothing.
"""

import datetime as dt
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

from lacre.audit.controls.scoring import Assessment, assess
from lacre.audit.controls.snapshot import Snapshot
from lacre.audit.notes import Verifier
from lacre.context import acting_as
from lacre.dashboard.counting import Counting
from lacre.errors import ConfigurationError
from lacre.evidence import stamp_of
from lacre.fields.deadlines import Standing
from lacre.jobs.standings import standings
from lacre.keys.rotation import Due, due
from lacre.kms.local import PublicIdentity
from lacre.kms.signing import believed, operators
from lacre.policy.decisions import Policy
from lacre.policy.loading import load_pins, load_policy
from lacre.sinks.jsonl import JsonLinesSink
from lacre.stores.log.alerts import AlertStore
from lacre.stores.log.counts import LogCounts
from lacre.stores.log.log import AuditLog
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import LogReader
from lacre.stores.opening import open_key_store
from lacre.stores.sql import SQLKeyStore

__all__ = ["Report", "Sources"]

_SOON = dt.timedelta(days=30)


_SNAPSHOT = ".snapshot"


@lru_cache(maxsize=4096)
def _said(path: Path, changed: int, size: int, verifiers: tuple[Verifier, ...]) -> tuple[str, str, str]:  # fmt: skip
    # Whose a snapshot is and when it was made, as it was when it was changed last: seven years have many.
    body = Snapshot.read(path.read_bytes(), verifiers).body
    return str(body["app"]), str(body["env"]), str(body["made"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A snapshot, the name of its file, and how it is judged."""

    name: str
    snapshot: Snapshot
    assessment: Assessment


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """
    One application, as it may be looked at.

    Args:
        log: None where evidence is kept as lines only.
        operator: who acknowledges alerts; None where nobody here may.
        coverage: counts the values of columns by their keys; None where no database was named.
    """

    policy: Policy
    base: Path
    keys: SQLKeyStore
    log: AuditLog | None
    operator: str | None
    coverage: Counting | None = None
    now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC)

    @classmethod
    def load(
        cls, path: Path, *, operator: str | None = None, coverage: Counting | None = None
    ) -> Self:
        """
        Open what the `lacre.toml` at *path* names.

        Raises:
            ConfigurationError: says what is wrong, and what to do.
        """
        file = load_policy(path, os.environ)
        base = path.resolve().parent
        return cls(
            policy=Policy(file, pins=load_pins(path)),
            base=base,
            keys=open_key_store(file.key_store.url, base, schema=file.key_store.schema_),
            log=None if file.audit.url is None else open_log(file, base),
            operator=operator,
            coverage=coverage,
        )

    def close(self) -> None:
        """Close every connection."""
        self.keys.close()
        if self.log is not None:
            self.log.close()

    def kept(self) -> AuditLog:
        """
        Return the evidence log.

        Raises:
            ConfigurationError: evidence is kept as lines only.
        """
        if self.log is None:
            raise ConfigurationError(
                "lacre.toml names no evidence log, only a file of lines",
                hint='[audit] url = "sqlite:///lacre/audit.db", then `lacre db upgrade`',
            )
        self.log.check()
        return self.log

    @property
    def reader(self) -> LogReader:
        return LogReader(self.kept())

    @property
    def counts(self) -> LogCounts:
        return LogCounts(self.kept())

    @property
    def alerts(self) -> AlertStore:
        return AlertStore(self.kept(), stamp=stamp_of(self.policy.file))

    def report(self) -> "Report | None":
        """
        Return the newest evidence snapshot of this application and environment, judged; None where there is none.

        The newest by what its signer says, not by its file's time, which copying changes.

        Raises:
            Tampered: one of them nobody believed signed as it is.
            ConfigurationError: it is of a release with other controls.
        """
        file = self.policy.file
        directory = self.base / file.report.snapshots
        verifiers = (*believed(file), *operators(file))
        newest: tuple[str, Path] | None = None
        for path in sorted(directory.glob(f"*{_SNAPSHOT}")):
            if path.is_file():
                stat = path.stat()
                app, env, made = _said(path, stat.st_mtime_ns, stat.st_size, verifiers)
                # The same signer may sign for another application.
                if (app, env) == (file.app, file.env) and (newest is None or newest[0] <= made):
                    newest = made, path
        if newest is None:
            return None
        snapshot = Snapshot.read(newest[1].read_bytes(), verifiers)
        return Report(name=newest[1].name, snapshot=snapshot, assessment=assess(snapshot))

    def acting(self) -> acting_as:
        """Act as the operator, in a ``with`` block: for what is recorded."""
        if self.operator is None:
            raise ConfigurationError(
                "nobody may acknowledge alerts here: lacre.toml names no operator identity",
                hint='[local] operator = "lacre/identities/operator.key", on the operator\'s machine only',
            )
        return acting_as(self.operator, roles={"operator"}, purpose="alerts")

    def due(self) -> Sequence[Due]:
        """Return which keys are to be rotated, finished or looked at, now or in 30 days."""

        return due(
            self.keys.rows(),
            period=lambda row: self.policy.rotates_after(row.scope),
            now=self.now(),
            within=_SOON,
        )

    def columns(self) -> tuple[list[Standing], list[str]]:
        """Return where every column stands, of each store, and what is wrong with their states."""
        file = self.policy.file
        signers = [PublicIdentity.from_text(line) for line in file.local.signers]
        trusted = {signer.fingerprint: signer for signer in signers}
        found: list[Standing] = []
        wrong: list[str] = []
        for store in file.stores:
            these, forged = standings(
                self.keys,
                file.columns,
                store=store,
                signers=trusted,
                evidence=self._newest,
                clock=lambda: self.now().timestamp(),
            )
            found += these
            wrong += forged
        return found, wrong

    def _newest(self) -> float | None:
        # Of the log where there is one: a sink, which also writes, is nothing for a page.
        if self.log is not None:
            newest = self.reader.newest()
            return None if newest is None else newest.entry.time.timestamp()
        path = self.policy.file.audit.path
        stamp = stamp_of(self.policy.file)
        return None if path is None else JsonLinesSink(self.base / path, stamp).newest()
