# SPDX-License-Identifier: Apache-2.0
"""
Values of the Ship Chandlery platform (`EncryptedData` as JSON text): AES-256-GCM with an IV of 16 bytes under a data key of its
own, which AWS KMS wrapped in the context of table and column.

Its cache of data keys gave back another key than it was given, so a second load within five minutes left the ciphertext in the
object, and the next save encrypted that. Such values are unwrapped as often as they were wrapped, and the reader says so. It
never encrypted the empty text, which therefore stands as it is. Anything else in the clear is refused: that the platform
took whatever did not parse for a value was how it lost the difference.

The value is bound to table and column by its data key, to no row.
Never read from the value: the algorithm, the KMS key, the length of the tag.
"""

from typing import Any

from lacre.errors import Tampered
from lacre.legacy.data_keys import Unwrap, unwrapped
from lacre.legacy.reader import Found, Reader, base64_of, gcm, json_of, members_of
from lacre.legacy.values import text_type

__all__ = ["ChandleryReader"]

_MEMBERS = frozenset({"algorithm", "authTag", "ciphertext", "encryptedDataKey", "iv"})
_DEEPEST = 8


class ChandleryReader(Reader):
    """
    Args:
        name: what evidence calls this reader.
        unwrap: opens a data key; see `lacre.legacy.data_keys`.
        table, column: as the platform named them (TypeORM's table, the property of the class).
    """

    calls = 1
    python_type: type = str

    def __init__(self, *, name: str, unwrap: Unwrap, table: str, column: str) -> None:
        super().__init__(name)
        self._unwrap = unwrap
        self._context = {"table": table, "column": column}

    def looks_like(self, stored: object) -> bool:
        return stored == "" or _is_field(stored)

    def _found(self, stored: object) -> Found:
        if stored == "":
            return Found("")
        plain, layers = self._opened(members_of(stored, _MEMBERS)), 1
        while plain[:1] == b"{" and _is_field(plain):
            # What looks like a ciphertext and does not open is no value to be kept: it would be encrypted a third time.
            if layers == _DEEPEST:
                raise Tampered
            plain, layers = self._opened(members_of(plain, _MEMBERS)), layers + 1
        return Found(
            text_type("str").value(plain), "encrypted more than once" if layers > 1 else ""
        )

    def _opened(self, field: dict[str, Any]) -> bytes:
        if field["algorithm"] != "AES-256-GCM":
            raise Tampered
        iv, tag = base64_of(field["iv"], exactly=16), base64_of(field["authTag"], exactly=16)
        ciphertext = base64_of(field["ciphertext"])
        key = unwrapped(self._unwrap, base64_of(field["encryptedDataKey"]), self._context)
        return gcm(key, iv, ciphertext, tag)


def _is_field(stored: object) -> bool:
    try:
        return json_of(stored).keys() == _MEMBERS
    except Tampered:
        return False
