# SPDX-License-Identifier: Apache-2.0
"""
A dump of a key store: everything in it, as signed text.

Implements ``spec/key-store-dump.md``. Holds wrapped keys only; never an identity's private keys
and never a key in the clear. Does no I/O and writes into no store (`lacre.recovery.restore`).

Rule 1: no byte is interpreted before a trusted signer's signature over all of them is verified.
Rule 2: one store at one moment has one spelling; every other is refused.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lacre.errors import Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow, verify
from lacre.keys.epochs import Epoch, EpochState
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, SubjectRow
from lacre.keys.seen import SeenSerial
from lacre.kms.local import Identity, PublicIdentity, text
from lacre.kms.local import manifest as manifests_of
from lacre.kms.local.memory import refuse_rollback
from lacre.kms.local.service import SCHEME
from lacre.stores.contents import KeyStoreContents

__all__ = ["Dump", "read_dump", "write_dump"]

_FORMAT = "lacre-key-dump-2"
_BEFORE = "lacre-key-dump-1"  # without subjects: read, and not written any more
_LABEL = b"lacre/1/key-dump"  # 16 bytes as every label, so that no other signed message begins so

_HEADER = frozenset({"app", "columns", "env", "epochs", "format", "keys", "keystore", "manifests", "remembers", "seen", "signer", "subjects", "taken_at"})  # fmt: skip
_KEY = frozenset({"app", "changed", "class", "created", "digest", "env", "key", "kind", "mac", "parent", "revision", "service", "state", "subject", "suite", "tenant", "version", "wrapped"})  # fmt: skip
_COLUMN = frozenset({"changed", "class", "column", "revision", "signature", "signer", "state", "store", "table"})  # fmt: skip
_SUBJECT = frozenset({"created", "digest", "hold", "pseudonym", "shredded"})
_EPOCH = frozenset({"changed", "dump", "final", "kms_key", "material", "number", "opened", "seal", "signature", "signer", "state", "unsealed"})  # fmt: skip
_SEEN = frozenset({"hash", "kms_key", "mac", "serial", "version_id"})
_MANIFEST = frozenset({"file", "name"})

_LONGEST = {"parent": 1024, "kms_key": 1024}  # of text; 255 for all others, as in the store
_WRAPPED = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """
    What a verified dump holds.

    *manifests* are the local keystore's, by name, each as its file has it.
    """

    app: str
    env: str
    taken_at: str
    signer: str
    contents: KeyStoreContents
    manifests: Mapping[str, bytes] = field(repr=False)


def write_dump(
    contents: KeyStoreContents,
    manifests: Mapping[str, bytes],
    *,
    app: str,
    env: str,
    taken_at: str,
    signer: Identity,
    signers: Collection[PublicIdentity],
) -> bytes:
    """
    Return the dump.

    Raises:
        Tampered: it would be refused when read: the store holds something that nobody signed, or
            *signer* is not among the *signers*.
    """
    header = {
        "app": app,
        "columns": len(contents.columns),
        "env": env,
        "epochs": len(contents.epochs),
        "format": _FORMAT,
        "keys": len(contents.keys),
        "keystore": contents.keystore,
        "manifests": len(manifests),
        "remembers": contents.remembers,
        "seen": len(contents.seen),
        "signer": signer.fingerprint,
        "subjects": len(contents.subjects),
        "taken_at": taken_at,
    }
    lines = [
        header,
        *(_from_key(row) for row in sorted(contents.keys, key=lambda row: row.key_id)),
        *(_from_column(row) for row in sorted(contents.columns, key=_column_place)),
        *(_from_seen(row) for row in sorted(contents.seen, key=lambda row: row.kms_key)),
        *(_from_subject(row) for row in sorted(contents.subjects, key=lambda row: row.digest)),
        *(_from_epoch(row) for row in sorted(contents.epochs, key=lambda row: row.number)),
        *({"file": text.to_base64url(manifests[name]), "name": name} for name in sorted(manifests)),
    ]
    body = b"".join(text.dump(line) + b"\n" for line in lines)
    data = body + text.to_base64url(signer.sign(_signed(body))).encode() + b"\n"
    read_dump(data, signers=signers)  # an operator keeps no dump that could not be restored
    return data


def read_dump(data: bytes, *, signers: Collection[PublicIdentity]) -> Dump:
    """
    Return the dump, every line of it verified.

    Raises:
        Tampered: whatever is wrong with it.
    """
    # The last line is the signature; what is before it is signed, newline included.
    body, _, last = data.removesuffix(b"\n").rpartition(b"\n")
    body += b"\n"
    if not data.endswith(b"\n"):
        raise Tampered
    try:
        signature = text.from_base64url(last.decode("ascii"), 64)
    except ValueError:
        raise Tampered from None
    signer = _signer_of(_signed(body), signature, signers)
    try:
        dump = _parsed(body, signer, signers)
    except (ValueError, TypeError, RecursionError):
        raise Tampered from None
    return dump


def _signed(body: bytes) -> bytes:
    return _LABEL + hashlib.sha256(body).digest()


def _signer_of(
    message: bytes, signature: bytes, signers: Collection[PublicIdentity]
) -> PublicIdentity:
    for signer in signers:
        try:
            signer.verify(message, signature)
        except Tampered:
            continue
        return signer
    raise Tampered


def _parsed(body: bytes, signer: PublicIdentity, signers: Collection[PublicIdentity]) -> Dump:
    lines = iter(body.split(b"\n")[:-1])
    header, of_key = text.load(next(lines)), _KEY
    if isinstance(header, dict) and header.get("format") == _BEFORE:
        header = text.members(header, _HEADER - {"epochs", "subjects"})
        header |= {"epochs": 0, "format": _FORMAT, "subjects": 0}
        of_key = _KEY - {"digest"}
    header = text.members(header, _HEADER)
    keystore = _hex(header["keystore"], 16)
    if (header["format"], header["signer"]) != (_FORMAT, signer.fingerprint):
        raise ValueError("another format or signer")
    if type(header["remembers"]) is not bool:
        raise ValueError("not a truth value")
    keys = [_to_key(found, keystore) for found in _take(lines, header["keys"], of_key)]
    columns = [_to_column(found, keystore) for found in _take(lines, header["columns"], _COLUMN)]
    seen = [_to_seen(found) for found in _take(lines, header["seen"], _SEEN)]
    subjects = [_to_subject(found) for found in _take(lines, header["subjects"], _SUBJECT)]
    epochs = [_to_epoch(found, keystore) for found in _take(lines, header["epochs"], _EPOCH)]
    manifests = {
        _text(found, "name"): _bytes(found["file"], manifests_of.LIMIT)
        for found in _take(lines, header["manifests"], _MANIFEST)
    }
    if next(lines, None) is not None:
        raise ValueError("more lines than the header says")
    _ordered([row.key_id for row in keys], header["keys"])
    _ordered([_column_place(row) for row in columns], header["columns"])
    _ordered([row.kms_key for row in seen], header["seen"])
    _ordered([row.digest for row in subjects], header["subjects"])
    _ordered([row.number for row in epochs], header["epochs"])
    _ordered(list(manifests), header["manifests"])
    _consistent(keys, subjects)
    trusted = {each.fingerprint: each for each in signers}
    for row in columns:
        verify(row, trusted)
    for epoch in epochs:
        _verify_epoch(epoch, trusted)
    remembered = {row.kms_key: row for row in seen}
    for name, file in manifests.items():
        found = manifests_of.verify(file, key=name, keystore=keystore, signers=signers)
        highest = remembered.get(SCHEME + name)
        if highest is not None:
            refuse_rollback(found, serial=highest.serial, digest=highest.hash)
    return Dump(
        app=_text(header, "app"),
        env=_text(header, "env"),
        taken_at=_text(header, "taken_at"),
        signer=signer.fingerprint,
        contents=KeyStoreContents(
            keystore=keystore,
            remembers=header["remembers"],
            keys=tuple(keys),
            columns=tuple(columns),
            seen=tuple(seen),
            subjects=tuple(subjects),
            epochs=tuple(reversed(epochs)),
        ),
        manifests=manifests,
    )


def _consistent(keys: Sequence[KeyRow], subjects: Sequence[SubjectRow]) -> None:
    # What the store's indexes would refuse, found before anything is written.
    versions = {(row.scope, row.version) for row in keys}
    active = [row.scope for row in keys if row.state is KeyState.ACTIVE]
    if len(versions) != len(keys) or len(set(active)) != len(active):
        raise ValueError("two rows of one version, or two active ones")
    known = {(row.digest, row.pseudonym) for row in subjects}
    if any(row.digest and (row.digest, row.scope.subject) not in known for row in keys):
        raise ValueError("a key of a subject that is not there, or was shredded")


def _take(lines: Iterator[bytes], count: object, names: frozenset[str]) -> Iterator[dict[str, Any]]:
    for _ in range(_count(count, least=0)):
        line = next(lines, None)
        if line is None:
            raise ValueError("fewer lines than the header says")
        yield text.members(text.load(line), names)


def _ordered(names: Sequence[Any], count: int) -> None:
    if len(names) != count or any(one >= other for one, other in pairwise(names)):
        raise ValueError("not in order, or twice")


def _from_key(row: KeyRow) -> dict[str, Any]:
    return row.scope.pairs() | {
        "changed": row.changed,
        "created": row.created,
        "digest": None if row.digest is None else row.digest.hex(),
        "key": row.key_id.hex(),
        "mac": None if row.mac is None else text.to_base64url(row.mac),
        "parent": row.parent,
        "revision": row.revision,
        "state": str(row.state),
        "subject": row.scope.subject,
        "suite": row.suite,
        "version": row.version,
        "wrapped": None if row.wrapped is None else text.to_base64url(row.wrapped),
    }


def _to_key(found: dict[str, Any], keystore: str) -> KeyRow:
    row = KeyRow(
        key_id=bytes.fromhex(_hex(found["key"], 16)),
        scope=Scope(
            kind=KeyKind(found["kind"]),
            app=_text(found, "app"),
            env=_text(found, "env"),
            service=_text(found, "service"),
            tenant=_text(found, "tenant"),
            class_=_text(found, "class"),
            subject=None if found["subject"] is None else _text(found, "subject"),
        ),
        version=_count(found["version"]),
        parent=_text(found, "parent"),
        suite=_count(found["suite"]),
        created=_text(found, "created"),
        keystore=keystore,
        wrapped=None if found["wrapped"] is None else _bytes(found["wrapped"], _WRAPPED),
        state=KeyState(found["state"]),
        revision=_count(found["revision"]),
        changed=_text(found, "changed"),
        mac=None if found["mac"] is None else text.from_base64url(found["mac"], 32),
        digest=None if found.get("digest") is None else text.from_hex(found["digest"], 32),
    )
    if (row.state is KeyState.DESTROYED) != (row.wrapped is None):
        raise ValueError("a destroyed key has nothing wrapped, every other has")
    linked = row.scope.kind is KeyKind.SUBJECT and row.state is not KeyState.DESTROYED
    if linked != (row.digest is not None):
        raise ValueError("a subject's key has its digest until it is destroyed, no other has one")
    return row


def _column_place(row: ColumnStateRow) -> tuple[str, str, str]:
    return (row.store, row.table, row.column)


def _from_column(row: ColumnStateRow) -> dict[str, Any]:
    return {
        "changed": row.changed,
        "class": row.class_,
        "column": row.column,
        "revision": row.revision,
        "signature": text.to_base64url(row.signature),
        "signer": row.signer,
        "state": str(row.state),
        "store": row.store,
        "table": row.table,
    }


def _to_column(found: dict[str, Any], keystore: str) -> ColumnStateRow:
    return ColumnStateRow(
        store=_text(found, "store"),
        table=_text(found, "table"),
        column=_text(found, "column"),
        class_=_text(found, "class"),
        state=ColumnState(found["state"]),
        revision=_count(found["revision"]),
        changed=_text(found, "changed"),
        keystore=keystore,
        signer=_hex(found["signer"], 16),
        signature=text.from_base64url(found["signature"], 64),
    )


def _from_subject(row: SubjectRow) -> dict[str, Any]:
    return {
        "created": row.created,
        "digest": row.digest.hex(),
        "hold": row.hold,
        "pseudonym": row.pseudonym,
        "shredded": row.shredded,
    }


def _to_subject(found: dict[str, Any]) -> SubjectRow:
    pseudonym = found["pseudonym"]
    row = SubjectRow(
        digest=text.from_hex(found["digest"], 32),
        pseudonym=None if pseudonym is None else _hex(pseudonym, 16),
        created=_text(found, "created"),
        shredded=None if found["shredded"] is None else _text(found, "shredded"),
        hold=None if found["hold"] is None else _text(found, "hold"),
    )
    if (row.pseudonym is None) != (row.shredded is not None):
        raise ValueError("a shredded subject has no pseudonym, every other has")
    return row


def _from_epoch(row: Epoch) -> dict[str, Any]:
    return {
        "changed": row.changed,
        "dump": row.dump,
        "final": row.final,
        "kms_key": row.kms_key,
        "material": row.material,
        "number": row.number,
        "opened": row.opened,
        "seal": row.seal,
        "signature": text.to_base64url(row.signature),
        "signer": row.signer,
        "state": str(row.state),
        "unsealed": row.unsealed,
    }


def _to_epoch(found: dict[str, Any], keystore: str) -> Epoch:
    def some(name: str) -> str | None:
        return None if found[name] is None else _text(found, name)

    return Epoch(
        number=_count(found["number"]),
        kms_key=_text(found, "kms_key"),
        state=EpochState(found["state"]),
        opened=_text(found, "opened"),
        changed=_text(found, "changed"),
        keystore=keystore,
        seal=None if found["seal"] is None else _hex(found["seal"], 16),
        material=some("material"),
        final=some("final"),
        unsealed=some("unsealed"),
        dump=None if found["dump"] is None else _hex(found["dump"], 32),
        signer=_hex(found["signer"], 16),
        signature=text.from_base64url(found["signature"], 64),
    )


def _verify_epoch(row: Epoch, signers: Mapping[str, PublicIdentity]) -> None:
    signer = signers.get(row.signer)
    if signer is None:
        raise Tampered
    signer.verify(row.signed_bytes(), row.signature)


def _from_seen(row: SeenSerial) -> dict[str, Any]:
    return {
        "hash": row.hash,
        "kms_key": row.kms_key,
        "mac": text.to_base64url(row.mac),
        "serial": row.serial,
        "version_id": row.version_id,
    }


def _to_seen(found: dict[str, Any]) -> SeenSerial:
    return SeenSerial(
        kms_key=_text(found, "kms_key"),
        serial=_count(found["serial"]),
        hash=_hex(found["hash"], 32),
        version_id=_hex(found["version_id"], 16),
        mac=text.from_base64url(found["mac"], 32),
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found[name]
    if type(value) is not str or not 0 < len(value) <= _LONGEST.get(name, 255):
        raise ValueError("not text of a length that a store takes")
    value.encode()  # no lone surrogate
    return value


def _count(value: Any, *, least: int = 1) -> int:
    if type(value) is not int or not least <= value < 2**31:
        raise ValueError("not a count")
    return value


def _hex(value: object, length: int) -> str:
    return text.from_hex(value, length).hex()


def _bytes(value: Any, limit: int) -> bytes:
    # Whatever length: base64url says how long it is.
    if type(value) is not str or len(value) > limit * 4 // 3 + 4:
        raise ValueError("not base64url")
    return text.from_base64url(value, len(value) * 3 // 4)
