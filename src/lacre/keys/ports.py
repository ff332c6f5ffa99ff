# SPDX-License-Identifier: Apache-2.0
"""
The two ports keys come through: a key service, which wraps, and a key store, which remembers.

Implementations live on floor 3. They may raise what they like inside; what leaves these methods
is the tree of `lacre.errors`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from lacre.keys.hierarchy import KeyRow, Scope
from lacre.sensitive import KeyMaterial

__all__ = ["KeyReader", "KeyService", "KeyWriter"]


class KeyService(Protocol):
    """
    Wraps and unwraps keys under KMS keys, which are named by URI.

    *context* is the wrap context of `KeyRow.wrap_context`: eight pairs, bound by the wrap.
    """

    def mint(self, kms_key: str, context: Mapping[str, str]) -> bytes:
        """
        Return 32 new random bytes, wrapped. The caller never sees them.

        Raises:
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, ConfigurationError
        """
        ...

    def unwrap(self, kms_key: str, wrapped: bytes, context: Mapping[str, str]) -> KeyMaterial:
        """
        Return the key.

        Raises:
            Tampered: not wrapped under this KMS key, or not in this context.
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled, KeyDestroyed
        """
        ...


class KeyReader(Protocol):
    """
    Reads rows of wrapped keys. Returns what is stored; authenticates nothing.

    Every method raises `KeyStoreUnreachable`, which is retryable, where the store does not answer.
    """

    @property
    def keystore_id(self) -> str:
        """The key store's own id, bound in every row it holds."""
        ...

    def find(self, scope: Scope, key_ids: Collection[bytes]) -> Sequence[KeyRow]:
        """Return the rows with these ids whose columns equal *scope*; others are left out."""
        ...

    def versions(self, scope: Scope) -> Sequence[KeyRow]:
        """Return every version of the scope, highest first."""
        ...

    def holds(self, key_id: bytes) -> bool:
        """Whether any row has this id."""
        ...


class KeyWriter(Protocol):
    """Writes rows, each call in one transaction."""

    def change(
        self, *, add: Sequence[KeyRow] = (), replace: Sequence[tuple[KeyRow, KeyRow]] = ()
    ) -> None:
        """
        Insert *add* and replace each (old, new), all or nothing.

        A replacement compares state, revision and wrapped key with *old* (compare-and-swap).

        Raises:
            MisuseError: somebody else changed a row in between, or added that version first.
        """
        ...
