# SPDX-License-Identifier: Apache-2.0
"""
Sealing and opening one value of a field: bytes in, bytes out, under a key that was resolved.

Rule: no value is encrypted twice, and nothing that is not a value is opened. Does not decide and
records nothing (`lacre.fields.field` does).
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lacre._core import field as core
from lacre._core.textform import from_json, from_json_text, from_text
from lacre.errors import AlreadyEncrypted, LacreError, MaskWritten, PlaintextFound, Tampered
from lacre.fields.guard import Guarded, TenantFacts
from lacre.fields.rows import RowId
from lacre.fields.scheme import Scheme
from lacre.fields.stored import Sealed
from lacre.keys.resolver import UsableKey
from lacre.sensitive import Mask

__all__ = ["Sealing"]

_STARTS = frozenset(
    (b"\xc1", b"w", b"{", b" ", b"\t", b"\r", b"\n")
)  # of the binary, text and JSON form
_NEVER_ENCRYPTED = (Mask, Sealed)
_BINARY = (bytes, bytearray, memoryview)  # a tuple: the union would be made anew for every look


class Sealing(Guarded):
    """A field that can seal and open, before anything is decided or recorded."""

    def _sealed(
        self, value: Any, row: str, tenant: TenantFacts, key: UsableKey
    ) -> bytes | bytearray:
        if isinstance(value, _NEVER_ENCRYPTED):
            raise self._not_a_value(value)
        payload = self._encode(value)
        if payload[:1] in _STARTS:
            self._refuse_encrypted(payload)
        # The salt is drawn here, one call of the kernel's generator for each value: no pool that
        # a fork or a resumed snapshot could share, and no argument that a caller could repeat.
        return core.encrypt(
            key.prepared,
            key.key_id,
            tenant.place.at(row),
            payload,
            salt=os.urandom(24),
            padded=self._padded,
        )

    def _not_a_value(self, given: Mask | Sealed) -> LacreError:
        if isinstance(given, Sealed):
            return _already(self.scheme)
        return MaskWritten(
            f"a mask was written to {self.scheme}",
            hint="leave the field alone: it keeps the value the mask hides",
        )

    def _refuse_encrypted(self, payload: bytes) -> None:
        # Double encryption is refused only if the bytes name a key that the key store holds: a
        # bytes field may hold anything, and text may begin with any letter. A large value is
        # neither copied nor parsed for this, unless it has the marks of a value.
        candidates: list[bytes] = [bytes(payload)] if core.looks_encrypted(payload) else []
        text = payload.strip(b" \t\r\n")
        parse = None
        if text.startswith(b"wQE"):
            parse = from_text
        elif text.startswith(b"{") and b"lacre-1-" in text:
            parse = from_json_text
        if parse is not None:
            with suppress(Tampered, UnicodeDecodeError):
                candidates.append(bytes(parse(text.decode())))
        if any(self._guard.store.holds(core.key_id_of(candidate)) for candidate in candidates):
            raise _already(self.scheme)

    def _binary(self, sealed: Any) -> Any:
        if isinstance(sealed, _BINARY):
            if core.looks_encrypted(sealed):
                return sealed
            if bytes(sealed[:2]) == core.MAGIC_AND_SUITE:
                raise Tampered
        elif isinstance(sealed, str):
            if sealed.startswith("wQ"):
                return from_text(sealed)
        elif isinstance(sealed, Mapping):
            return from_json(sealed)
        raise PlaintextFound(
            f"{self.scheme} holds something that is not a lacre value",
            hint="nothing was decrypted; `lacre protect` encrypts a column in place, and an `encrypted` column takes no plaintext",
        )

    def _opened(
        self,
        sealed: Any,
        row: str,
        tenant: TenantFacts,
        subject: RowId | None = None,
        *,
        moving: bool = False,
        names: set[str] | None = None,
    ) -> Any:
        # *names* gets the pseudonym of whose value it was.
        # Mostly of the binary form, which is seen here, and a call less: it is opened for every hit
        # of a search.
        binary = isinstance(sealed, _BINARY) and core.looks_encrypted(sealed)
        raw: Any = sealed if binary else self._binary(sealed)
        key_id = bytes(raw[3:19])
        if subject is None and not self.scheme.subject:
            key = self._guard.resolver.to_decrypt(tenant.data, key_id)
        else:
            key = self._to_decrypt(tenant, subject, key_id, moving=moving)
            if names is not None and key.subject:
                names.add(key.subject)
        return self._decode(core.decrypt(key.prepared, raw, tenant.place.at(row)))


def _already(scheme: Scheme) -> AlreadyEncrypted:
    return AlreadyEncrypted(
        f"the value given to {scheme} is encrypted already",
        hint="pass the plaintext; a row's own ciphertext is moved by decrypting and encrypting it",
    )
