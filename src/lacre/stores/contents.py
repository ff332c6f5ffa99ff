# SPDX-License-Identifier: Apache-2.0
"""
Everything that one key store holds, at one moment.

What a dump is made of and a restore writes. Authenticates nothing and holds no key in the clear:
what is wrapped stays wrapped.
"""

from dataclasses import dataclass, field

from lacre.fields.column_state import ColumnStateRow
from lacre.keys.epochs import Epoch
from lacre.keys.hierarchy import KeyRow, SubjectRow
from lacre.keys.seen import SeenSerial

__all__ = ["KeyStoreContents"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStoreContents:
    """
    The rows of a key store.

    *keystore* is its id; *remembers* whether it has remembered manifests from its first day, so
    that a missing memory is a removed one.
    """

    keystore: str
    remembers: bool
    keys: tuple[KeyRow, ...] = field(repr=False)
    columns: tuple[ColumnStateRow, ...] = field(repr=False)
    seen: tuple[SeenSerial, ...] = field(repr=False)
    subjects: tuple[SubjectRow, ...] = field(repr=False, default=())
    epochs: tuple[Epoch, ...] = field(repr=False, default=())

    def __bool__(self) -> bool:
        """Whether it holds anything at all."""
        return bool(self.keys or self.columns or self.seen or self.subjects or self.epochs)
