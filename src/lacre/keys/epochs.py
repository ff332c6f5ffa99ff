# SPDX-License-Identifier: Apache-2.0
"""
Epochs of sealing: which KMS key wraps the seal key of which epoch, and what became of it.

Implements ``spec/sealing.md``, section 3. Each epoch is a row of the key store that an operator
signed, because nothing else says which KMS key an epoch has: it is made when the epoch begins and
destroyed when it ends, so no policy can name it. Does not store rows (`Epochs` does), makes and
destroys no KMS key (`EpochKeys` does), and moves nothing (`lacre.jobs.sealing`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from lacre._core.canonical import canonical
from lacre.errors import Tampered
from lacre.fields.column_state import Signer, Verifier
from lacre.keys.hierarchy import Scope

__all__ = ["FIRST", "Epoch", "EpochKeys", "EpochLedger", "EpochState", "Epochs"]

# The version that a KMS key is made with. No epoch is under it, where versions have numbers: a key
# with no other is one that no key store seals with yet.
FIRST = "1"

# 16 bytes like every label, so that no other signed message of lacre begins with it.
_LABEL = b"lacre/1/epoch".ljust(16, b"\0")


class EpochState(StrEnum):
    """The life of an epoch."""

    OPENING = "opening"  # its KMS key is there; keys go over to it
    ACTIVE = "active"  # every sealed key is under it, or was until the next began
    CLOSING = "closing"  # the next has a dump that was restored; the KMS key is being destroyed
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """
    One epoch, as the key store holds it.

    Args:
        number: 1, 2, 3 ...
        kms_key: the URI of its epoch KMS key.
        seal: the id of its seal key, in hex; None until there is one.
        material: what names the version of it, where the key service numbers versions.
        opened, changed: RFC 3339 text in UTC.
        final: of a destroyed epoch, from when on nobody brings its KMS key back; None where
            nobody knows, because nobody said how long backups of the key service are kept.
        unsealed: keys made until then may be in older dumps without the seal; None where none is.
        dump: SHA-256 of the dump that was restored before the epoch before was destroyed.
        keystore: the id of the key store.
        signer: the fingerprint of the identity that signed.
    """

    number: int
    kms_key: str
    state: EpochState
    opened: str
    changed: str
    keystore: str
    seal: str | None = None
    material: str | None = None
    final: str | None = None
    unsealed: str | None = None
    dump: str | None = None
    signer: str = ""
    signature: bytes = b""

    def signed_bytes(self) -> bytes:
        """Everything but the signature, in one byte string."""
        return _LABEL + canonical(
            {
                "changed": self.changed,
                "dump": self.dump or "",
                "final": self.final or "",
                "keystore": self.keystore,
                "kms_key": self.kms_key,
                "material": self.material or "",
                "number": str(self.number),
                "opened": self.opened,
                "seal": self.seal or "",
                "signer": self.signer,
                "state": str(self.state),
                "unsealed": self.unsealed or "",
            }
        )

    def signed(self, signer: Signer) -> "Epoch":
        """Return the row as *signer* signs it."""
        row = replace(self, signer=signer.fingerprint)
        return replace(row, signature=signer.sign(row.signed_bytes()))


class Epochs(Protocol):
    """Keeps the rows. Returns what is stored; authenticates nothing."""

    def epochs(self) -> Sequence[Epoch]:
        """Return every epoch, the newest first."""
        ...

    def put_epoch(self, row: Epoch, *, over: Epoch | None) -> None:
        """
        Write *row* in the place of *over*, or as a new one.

        Raises:
            MisuseError: somebody else wrote in between.
        """
        ...


class EpochKeys(Protocol):
    """Makes and destroys the KMS keys of epochs, at one key service."""

    def open(self, number: int, *, above: str | None) -> str:
        """
        Make the KMS key of epoch *number*; return its URI. The same again where it is there already.

        Args:
            above: the version of the KMS key that the epoch before has, where versions have numbers;
                `FIRST` once the row of the first epoch is there, and None before that.

        Raises:
            KeyServiceDenied, KeyServiceUnreachable
            ConfigurationError: another key store may seal under it.
        """
        ...

    def destroy(self, kms_key: str, material: str | None, *, kept: str | None) -> str:
        """
        Destroy the KMS key of an epoch, or its version; done already, say so again.

        Args:
            kept: the version that stays, of the epoch after it.

        Returns:
            RFC 3339 text: from when on the key service itself does not bring it back.
        """
        ...

    def is_destroyed(self, kms_key: str, material: str | None) -> bool:
        """Whether the key service says now that it is gone, or waits for its end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLedger:
    """The epochs of one key store, believed where one of *signers*, by fingerprint, signed them."""

    epochs: Epochs
    signers: Mapping[str, Verifier]
    keystore: str

    def rows(self) -> Sequence[Epoch]:
        """
        Return every epoch, the newest first.

        Raises:
            Tampered: a row that nobody who is trusted signed, or of another key store.
        """
        rows = self.epochs.epochs()
        for row in rows:
            signer = self.signers.get(row.signer)
            if signer is None or signer.fingerprint != row.signer or row.keystore != self.keystore:
                raise Tampered
            signer.verify(row.signed_bytes(), row.signature)
        return rows

    def kms_keys(self, _scope: Scope) -> tuple[str, ...]:
        """Return the KMS keys that seal keys may be wrapped under, the newest epoch's first."""
        held = [row.kms_key for row in self.rows() if row.state is not EpochState.DESTROYED]
        return tuple(dict.fromkeys(held))
