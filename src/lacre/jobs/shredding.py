# SPDX-License-Identifier: Apache-2.0
"""
Shredding: destroy a subject's keys in every class, erase its index values, say so in a certificate.

In this order, each step found done by a second run: a journal is written, the keys are destroyed and
the subject becomes a tombstone, in one transaction; index values are erased; a reader with fresh keys
tries and must fail; the certificate is signed; the journal goes. A process that holds a cached key
reads, and writes, on until its cache expires: what it wrote meanwhile is erased by a second run after
`erased_from_live_at`, which `wait` does at once.

Leaves ciphertext where it is: nobody opens it. Does not seal (`lacre.jobs.sealing`).
"""

import datetime as dt
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lacre.audit.event import who
from lacre.audit.events import Erased
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import ConfigurationError, KeyNotFound, MisuseError, SubjectHeld, Tampered
from lacre.jobs.certificates import (
    FORMAT,
    STATEMENT,
    irrecoverable,
    later,
    read_certificate,
    write_certificate,
)
from lacre.jobs.holding import read_hold
from lacre.keys.epochs import EpochLedger
from lacre.keys.hierarchy import KeyRow, KeyState, Scope, SubjectRow, subject_digest
from lacre.keys.moments import now_text
from lacre.keys.recording import key_changes, recorded
from lacre.keys.sealing import cover, ended_at
from lacre.kms.local import Identity, PublicIdentity
from lacre.policy.model import PolicyFile

__all__ = ["Attempt", "ShredStore", "Shredded", "Shredder"]

_RACES = 20


class ShredStore(Protocol):
    """A key store as shredding needs it."""

    @property
    def keystore_id(self) -> str: ...

    def subject(self, digest: bytes) -> SubjectRow | None:
        """Return the subject, or None."""
        ...

    def keys_of_subject(self, scope: Scope, pseudonym: str) -> Sequence[KeyRow]:
        """Return every version of the subject's keys in every class of *scope*'s tenant."""
        ...

    def shred_subject(
        self, digest: bytes, *, when: str, replace: Sequence[tuple[KeyRow, KeyRow]]
    ) -> bool:
        """
        Destroy the keys and leave the tombstone, in one transaction; False where the subject is held.

        Raises:
            MisuseError: somebody else changed a key, or made one, in between.
        """
        ...

    def bucket_keys(self) -> Sequence[KeyRow]: ...

    def rows_of(self, key_ids: Collection[bytes]) -> Sequence[KeyRow]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    What came of trying to read the subject's values with keys fetched anew.

    *denied* were not tried: who shreds may not read them.
    """

    values: int
    refused: int
    opened: int
    denied: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredded:
    """What a shredding did, or one *again*, which found nothing to destroy. *certificate* is its bytes."""

    pseudonym: str
    again: bool
    certificate: bytes = field(repr=False)
    body: Mapping[str, Any] = field(repr=False)
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Journal:
    """What has to be known after the tombstone: which pseudonym and keys were the subject's."""

    pseudonym: str
    began: str
    keys: list[dict[str, Any]]
    first: str = ""  # SHA-256 of the certificate that said so first


@dataclass(frozen=True, slots=True, kw_only=True)
class Shredder:
    """
    Shreds subjects of one tenant.

    Args:
        scope: any of the service's and tenant's.
        text: of the subject's id, as its digest is made of it.
        count: returns how many rows are the subject's.
        erase: erases its index values; returns how many rows were changed, by TABLE.COLUMN.
        attempt: tries to read.
        bound: seconds until every process has forgotten a cached key.
        certificates: the directory they go to.
    """

    store: ShredStore
    ledger: EpochLedger
    scope: Scope
    policy: PolicyFile
    signer: Identity
    signers: Collection[PublicIdentity]
    recorder: Recorder
    bound: float
    certificates: Path
    now: Callable[[], str] = now_text

    def refuse(self, text: str) -> SubjectRow:
        """
        Return the subject, or raise.

        Raises:
            KeyNotFound: nothing was ever encrypted for it, under this tenant.
            SubjectHeld: it is under a legal hold.
        """
        digest = subject_digest(self.scope, text)
        found = self.store.subject(digest)
        if found is None:
            # Never quotes the subject: an id may be an address or a number that people have.
            raise KeyNotFound(
                f"tenant {self.scope.tenant!r} has no such subject",
                hint="name it as the column of `subject=` holds it, and --tenant",
            )
        if found.hold is not None:
            raise self._held(found)
        return found

    def shred(
        self,
        text: str,
        *,
        reason: str,
        count: Callable[[], int],
        erase: Callable[[], Mapping[str, int]],
        attempt: Callable[[], Attempt],
    ) -> Shredded:
        """
        Shred the subject whose id has *text*.

        Raises:
            KeyNotFound, SubjectHeld: as `refuse`.
            MisuseError: its keys kept changing.
        """
        row = self.refuse(text)
        journal = self._destroyed(row)
        again = bool(journal.first) or not journal.keys
        rows, erased = count(), dict(erase())
        tried = attempt()
        body = self._body(row.digest, journal, reason=reason, rows=rows, erased=erased, tried=tried)
        if journal.first:
            body["renews"] = journal.first
        certificate = write_certificate(body, signer=self.signer)
        path = self._kept(journal.pseudonym, certificate)
        self._record("certified", journal.pseudonym, len(journal.keys), certificate)
        with suppress(FileNotFoundError):
            self._journal(row.digest).unlink()
        return Shredded(
            pseudonym=journal.pseudonym, again=again, certificate=certificate, body=body, path=path
        )

    # Keys

    def _destroyed(self, row: SubjectRow) -> _Journal:
        for _ in range(_RACES):
            if row.shredded is not None:
                return self._remembered(row)
            assert row.pseudonym is not None  # of a subject that is no tombstone
            # Whoever may insert subjects can give one another's pseudonym: whose a key is, its
            # digest says, which is bound to it.
            keys = [
                key
                for key in self.store.keys_of_subject(self.scope, row.pseudonym)
                if key.digest in (row.digest, None)
            ]
            now = self.now()
            # After the keys: what is around one of them is among these. The state of a key is dated
            # by the key store's order (spec/sealing.md, section 6), the tombstone by the clock.
            buckets = self.store.bucket_keys()
            ended = {
                key.key_id: ended_at(key, buckets, now=now) if self._is_sealed(key) else now
                for key in keys
            }
            journal = _Journal(
                pseudonym=row.pseudonym,
                began=now,
                keys=[
                    {
                        "class": key.scope.class_,
                        "key": key.key_id.hex(),
                        "version": key.version,
                        "created": key.created,
                        "destroyed": key.changed
                        if key.state is KeyState.DESTROYED
                        else ended[key.key_id],
                        "sealed_by": None if (named := cover(key)) is None else named.hex(),
                    }
                    for key in keys
                ],
            )
            self._write_journal(row.digest, journal)
            living = [key for key in keys if key.state is not KeyState.DESTROYED]
            moved = [
                (key, key.stepped(KeyState.DESTROYED, changed=ended[key.key_id])) for key in living
            ]
            events = [
                self._event("shred", row.pseudonym, len(living), b""),
                *key_changes([new for _, new in moved]),
            ]
            try:
                with recorded(self.recorder.write, self.store, events):
                    self._shredded(row.digest, now, moved)
            except MisuseError:
                pass  # a key was made or moved meanwhile, or it was held or shredded
            else:
                return journal
            found = self.store.subject(row.digest)
            if found is None or found.hold is not None:
                raise self._held(found or row)
            row = found
        raise MisuseError("the subject's keys kept changing; nothing was done", hint="run it again")

    def _remembered(self, row: SubjectRow) -> _Journal:
        try:
            found = json.loads(self._journal(row.digest).read_text(encoding="ascii"))
            journal = _Journal(**found)
        except (FileNotFoundError, ValueError, TypeError):
            return self._certified(row)
        # The times that count are the rows': a run that died may have begun before.
        named = [bytes.fromhex(key["key"]) for key in journal.keys]
        ended = {each.key_id.hex(): each.changed for each in self.store.rows_of(named)}
        keys = [key | {"destroyed": ended.get(key["key"], row.shredded)} for key in journal.keys]
        return _Journal(pseudonym=journal.pseudonym, began=str(row.shredded), keys=keys)

    def _certified(self, row: SubjectRow) -> _Journal:
        # Nothing in the key store links a tombstone and the keys that were its subject's: what the
        # first certificate says is found by the moment, where one subject alone was shredded then.
        when, found = str(row.shredded), dict[str, tuple[str, bytes, dict[str, Any]]]()
        for path in self.certificates.glob("*.json"):
            data = path.read_bytes()
            if when.encode() not in data:
                continue
            try:
                body = read_certificate(data, signers=self.signers)
            except (ConfigurationError, Tampered):
                continue
            mine = (body.get("kind"), body.get("tenant"), body.get("keystore"), body.get("shredded_at"))  # fmt: skip
            if mine == ("subject", self.scope.tenant, self.store.keystore_id, when) and body["keys"]:  # fmt: skip
                latest = (str(body["issued_at"]), data, body)
                found[body["subject"]] = max(latest, found.get(body["subject"], latest), key=lambda each: each[:2])  # fmt: skip
        if len(found) != 1:
            return _Journal(pseudonym="", began=when, keys=[])
        [(_, data, body)] = found.values()
        digest = hashlib.sha256(data).hexdigest()
        return _Journal(pseudonym=body["subject"], began=when, keys=body["keys"], first=digest)

    def _is_sealed(self, key: KeyRow) -> bool:
        sealing = self.policy.sealing
        return cover(key) is not None or (
            sealing is not None and key.scope.class_ in sealing.classes
        )

    # What it says

    def _body(
        self,
        digest: bytes,
        journal: _Journal,
        *,
        reason: str,
        rows: int,
        erased: Mapping[str, int],
        tried: Attempt,
    ) -> dict[str, Any]:
        policy, now = self.policy, self.now()
        live = later(journal.began, dt.timedelta(seconds=self.bound))
        sealing = policy.sealing
        found = irrecoverable(
            journal.keys,
            live=live,
            epochs=self.ledger.rows(),
            buckets=self.store.bucket_keys(),
            sealed=frozenset() if sealing is None else sealing.classes,
            kept=policy.erasure.key_store_backups_kept,
        )
        waits = list(found.waits)
        if not journal.keys:
            waits.append(
                f"nothing: the subject was erased already, on {journal.began}, and the certificate of that run names the keys"
            )
        if tried.opened:
            waits.append(
                "values that opened: they are not under the subject's keys; re-encrypt them, then shred again"
            )
        kept = policy.erasure.data_backups_kept
        return {
            "format": FORMAT,
            "kind": "subject",
            "app": policy.app,
            "env": policy.env,
            "service": policy.service,
            "tenant": self.scope.tenant,
            "keystore": self.store.keystore_id,
            "subject": journal.pseudonym,
            "reason": reason,
            "by": self.signer.name,
            "issued_at": now,
            "shredded_at": journal.began,
            "erased_from_live_at": live,
            "irrecoverable_at": None if waits else found.at,
            "verdict": "pending" if waits else found.verdict(now),
            "waits_for": waits,
            "keys": journal.keys,
            "wrapped_copies_destroyed": len(journal.keys),
            "rows": rows,
            "index_values": {
                "erased": dict(erased),
                "in_backups_until": None if kept is None else later(now, kept),
                "statement": STATEMENT,
            },
            "verification": asdict(tried) | {"outcome": _outcome(tried)},
        }

    def _kept(self, pseudonym: str, certificate: bytes) -> Path:
        self.certificates.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = pseudonym or "again"
        digest = hashlib.sha256(certificate).hexdigest()[:16]
        path = self.certificates / f"{name}-{digest}.json"
        _write(path, certificate)
        return path

    # The journal

    def _journal(self, digest: bytes) -> Path:
        return self.certificates / f".{digest.hex()}.shredding"

    def _write_journal(self, digest: bytes, journal: _Journal) -> None:
        self.certificates.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(self._journal(digest), json.dumps(asdict(journal)).encode("ascii"))

    # Evidence

    def _held(self, row: SubjectRow) -> SubjectHeld:
        hold = read_hold(
            row.hold or "", row.digest, keystore=self.store.keystore_id, signers=self.signers
        )
        by = f"by {hold.signer}" if hold.signer else "by nobody who is trusted"
        self._record("refused", row.pseudonym or "", 0, b"")
        return SubjectHeld(
            f"the subject is under a legal hold since {hold.placed}, placed {by}",
            hint="lacre hold list shows why; lacre hold lift ends it",
        )

    def _shredded(self, digest: bytes, now: str, moved: Sequence[tuple[KeyRow, KeyRow]]) -> None:
        if not self.store.shred_subject(digest, when=now, replace=moved):
            raise MisuseError("the subject is held, or was shredded meanwhile; nothing was done")

    def _record(self, step: str, pseudonym: str, keys: int, certificate: bytes) -> None:
        self.recorder.write([self._event(step, pseudonym, keys, certificate)])

    def _event(self, step: str, pseudonym: str, keys: int, certificate: bytes) -> Erased:
        return Erased(
            **who(current(), time=time.time(), tenant=self.scope.tenant),
            step=step,
            subject=pseudonym,
            keys=keys,
            certificate=hashlib.sha256(certificate).hexdigest() if certificate else "",
        )


def _outcome(tried: Attempt) -> str:
    if tried.opened:
        return "readable"
    if tried.denied:
        return "not tried"
    return "unreadable" if tried.values else "no values"


def _write(path: Path, data: bytes) -> None:
    # A whole file or none: what a killed run left is not half a journal.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
