# SPDX-License-Identifier: Apache-2.0
"""What an application asks of a key store. Implemented by `lacre.stores.sql`, and by whoever brings their own."""

from typing import Protocol

from lacre.fields.column_state import ColumnStates
from lacre.keys.epochs import Epochs
from lacre.keys.ports import SubjectWriter
from lacre.keys.provisioning import KeyTable

__all__ = ["Store"]


class Store(KeyTable, SubjectWriter, ColumnStates, Epochs, Protocol):
    """A key store as an application needs it: rows of keys, states of columns, epochs of sealing."""

    def check(self) -> None:
        """Raise unless it answers now and has the schema of this release."""
        ...

    def close(self) -> None: ...
