# SPDX-License-Identifier: Apache-2.0
"""
Column state: whether a column may still hold plaintext. A signed row says so, never the bytes.

Implements ``spec/column-state.md``. Does not store rows (the key store does, through
`ColumnStates`) and does not decide when a state changes: only ``protect`` and ``unprotect`` do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from lacre._core.canonical import canonical
from lacre.errors import MisuseError, Tampered

__all__ = [
    "ColumnState",
    "ColumnStateRow",
    "ColumnStates",
    "Signer",
    "Verifier",
    "move",
    "state_of",
    "verify",
]

# 16 bytes like every label, so that no other signed message of lacre begins with it.
_LABEL = b"lacre/1/column".ljust(16, b"\0")


class ColumnState(StrEnum):
    """The life of a column that is to be protected."""

    PLAINTEXT = "plaintext"
    DUAL = "dual"  # both forms; has the protection of plaintext
    ENCRYPTED = "encrypted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnStateRow:
    """
    The state of one column, as the key store holds it.

    *revision* counts from 1; *changed* is RFC 3339 text in UTC; *keystore* the id of the key
    store, so that a row copied into another one is refused; *signer* the fingerprint of the
    identity that signed.
    """

    store: str
    table: str
    column: str
    class_: str
    state: ColumnState
    revision: int
    changed: str
    keystore: str
    signer: str
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """Everything but the signature, in one byte string."""
        return _LABEL + canonical(
            {
                "changed": self.changed,
                "class": self.class_,
                "column": self.column,
                "keystore": self.keystore,
                "revision": str(self.revision),
                "signer": self.signer,
                "state": str(self.state),
                "store": self.store,
                "table": self.table,
            }
        )


class Signer(Protocol):
    """Signs with an Ed25519 identity."""

    @property
    def fingerprint(self) -> str: ...

    def sign(self, message: bytes, /) -> bytes: ...


class Verifier(Protocol):
    """The public side of an identity. `verify` raises `Tampered`, or the signature is right."""

    @property
    def fingerprint(self) -> str: ...

    def verify(self, message: bytes, signature: bytes, /) -> None: ...


class ColumnStates(Protocol):
    """Keeps the rows. Returns what is stored; authenticates nothing."""

    def get(self, store: str, table: str, column: str) -> ColumnStateRow | None: ...

    def put(self, row: ColumnStateRow) -> None:
        """
        Write *row* if the stored revision is the one before its own (none: revision 1).

        Raises:
            MisuseError: somebody else wrote in between.
        """
        ...


def verify(row: ColumnStateRow, signers: Mapping[str, Verifier]) -> ColumnStateRow:
    """
    Return *row* if one of *signers*, by fingerprint, signed it.

    Raises:
        Tampered: unknown signer, or another content than was signed.
    """
    signer = signers.get(row.signer)
    if signer is None or signer.fingerprint != row.signer:
        raise Tampered
    signer.verify(row.signed_bytes(), row.signature)
    return row


def state_of(
    states: ColumnStates,
    signers: Mapping[str, Verifier],
    *,
    keystore: str,
    store: str,
    table: str,
    column: str,
    class_: str,
) -> ColumnState:
    """
    Return the state of a column. Without a row it is `encrypted`, the strictest: whoever deletes
    a row gains a refusal and not a column that accepts plaintext.

    Raises:
        Tampered: the row is not about this column, class and key store, or not rightly signed.
    """
    row = states.get(store, table, column)
    if row is None:
        return ColumnState.ENCRYPTED
    verify(row, signers)
    if (row.store, row.table, row.column, row.class_, row.keystore) != (
        store,
        table,
        column,
        class_,
        keystore,
    ):
        raise Tampered
    return row.state


def move(
    states: ColumnStates,
    signer: Signer,
    *,
    keystore: str,
    store: str,
    table: str,
    column: str,
    class_: str,
    to: ColumnState,
    changed: str,
) -> ColumnStateRow:
    """
    Write and return the next row of a column, in state *to*. Already there: the present row.

    Raises:
        MisuseError: the column belongs to another class, or somebody else moved it in between.
    """
    present = states.get(store, table, column)
    if present is not None and present.class_ != class_:
        raise MisuseError(f"{table}.{column} is of class {present.class_!r}, not {class_!r}")
    # Ed25519 signs one message in one way, so a row that somebody forged is replaced by a real one.
    if (
        present is not None
        and present.state is to
        and present.signer == signer.fingerprint
        and present.signature == signer.sign(present.signed_bytes())
    ):
        return present
    row = ColumnStateRow(
        store=store,
        table=table,
        column=column,
        class_=class_,
        state=to,
        revision=present.revision + 1 if present is not None else 1,
        changed=changed,
        keystore=keystore,
        signer=signer.fingerprint,
    )
    row = replace(row, signature=signer.sign(row.signed_bytes()))
    states.put(row)
    return row
