# SPDX-License-Identifier: Apache-2.0
"""
Attestations: what an operator found in a table when a migration had ended, signed.

Implements ``spec/attestation.md``. Says what was counted and compared, and in words what was not
looked at. Counts nothing itself (`lacre.sqlalchemy.attesting`); does not prove that nobody
changed the table since.
"""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lacre.errors import ConfigurationError, MisuseError, Tampered
from lacre.fields.column_state import Signer, Verifier

__all__ = [
    "Attestation",
    "AttestedColumn",
    "AttestedHistory",
    "AttestedIndex",
    "read_attestation",
    "write_attestation",
]

FORMAT = "lacre-attestation-1"
# 16 bytes like every label, so that no other signed message of lacre begins with it.
_LABEL = b"lacre/1/attest".ljust(16, b"\0")
_LONGEST = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedIndex:
    """One index: rows with a value and no token or the reverse; tokens recomputed, and those that differ."""

    index: str
    kind: str
    missing: int
    compared: int
    different: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedColumn:
    """One column: what every row was counted as, and how many values were opened."""

    table: str
    column: str
    class_: str
    state: str
    rows: int
    nulls: int
    encrypted: int
    plaintext: int
    opened: int
    indexes: tuple[AttestedIndex, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedHistory:
    """A column of a history table that was named: counted, not opened."""

    table: str
    column: str
    rows: int
    nulls: int
    encrypted: int
    plaintext: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What was found, where and when. *not_covered* are sentences about what was not looked at."""

    app: str
    env: str
    service: str
    store: str
    keystore: str
    database: str
    at: str
    signer: str
    columns: tuple[AttestedColumn, ...]
    history: tuple[AttestedHistory, ...]
    not_covered: tuple[str, ...]

    def failures(self) -> list[str]:
        """Return what an attestation may not say of a finished migration, in sentences."""
        found = []
        for column in self.columns:
            name = f"{column.table}.{column.column}"
            if column.state != "encrypted":
                found.append(f"the state of {name} is {column.state}")
            if column.plaintext:
                found.append(f"{name} holds something that is no ciphertext in {column.plaintext:,} rows")  # fmt: skip
            for index in column.indexes:
                if index.missing:
                    found.append(f"{name}: {index.missing:,} rows have a value and no token of the index {index.index}, or the reverse")  # fmt: skip
                if index.different:
                    found.append(f"{name}: {index.different:,} of {index.compared:,} tokens of the index {index.index} are not those of their values")  # fmt: skip
        found += [
            f"the history {each.table}.{each.column} holds something that is no ciphertext in {each.plaintext:,} rows"
            for each in self.history
            if each.plaintext
        ]
        return found


def write_attestation(found: Attestation, signer: Signer) -> bytes:
    """
    Return *found*, signed: a line of JSON and a line with the signature.

    Raises:
        MisuseError: something in it is not zero. Nothing of the kind is signed.
    """
    if failures := found.failures():
        raise MisuseError("nothing is attested: " + "; ".join(failures))
    record = {"format": FORMAT} | asdict(found) | {"signer": signer.fingerprint}
    body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode("ascii")
    signature = base64.urlsafe_b64encode(signer.sign(_LABEL + body)).rstrip(b"=")
    return body + b"\n" + signature + b"\n"


def read_attestation(data: bytes, *, signers: Collection[Verifier]) -> Attestation:
    """
    Return the attestation in *data* if one of *signers* signed every byte of it.

    Raises:
        Tampered: nobody of them did, or it is none.
    """
    lines = data.split(b"\n")
    if len(data) > _LONGEST or len(lines) != 3 or lines[2]:
        raise Tampered
    body, text, _ = lines
    try:
        signature = base64.urlsafe_b64decode(text + b"==")
        spelt = base64.urlsafe_b64encode(signature).rstrip(b"=")
        named = json.loads(body)["signer"]
    except (binascii.Error, ValueError, TypeError, KeyError, RecursionError):
        raise Tampered from None
    signer = next((each for each in signers if each.fingerprint == named), None)
    if signer is None or spelt != text:
        raise Tampered
    signer.verify(_LABEL + body, signature)
    # Signed, so an operator's own program wrote it: only its version may be another.
    return _parsed(json.loads(body))


def _parsed(record: Mapping[str, Any]) -> Attestation:
    fields = dict(record)
    if fields.pop("format", None) != FORMAT:
        raise ConfigurationError(
            "the attestation is of another release's format", hint="verify it with that release"
        )
    columns = tuple(
        AttestedColumn(
            **{**each, "indexes": tuple(AttestedIndex(**index) for index in each["indexes"])}
        )
        for each in fields.pop("columns")
    )
    history = tuple(AttestedHistory(**each) for each in fields.pop("history"))
    not_covered = tuple(fields.pop("not_covered"))
    return Attestation(columns=columns, history=history, not_covered=not_covered, **fields)
