# SPDX-License-Identifier: Apache-2.0
"""
The ports keys come through: a key service, which wraps, and a key store, which remembers.

What a key service does is four rights, which four credentials have: mint, unwrap, wrap (to move
keys), administer. A service object has every method; its credential decides which of them work.

Implementations live on floor 3. They may raise what they like inside; what leaves these methods
is the tree of `lacre.errors`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lacre.keys.hierarchy import KeyRow, Scope, SubjectRow, SubjectRows
from lacre.sensitive import KeyMaterial

__all__ = [
    "KeyMover",
    "KeyReader",
    "KeyService",
    "KeyWriter",
    "KmsKeyAdministration",
    "KmsKeyStatus",
    "SubjectWriter",
]


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


class KeyMover(Protocol):
    """What the migration credential does with keys, in a declared window; run time never."""

    def wrap(self, kms_key: str, key: KeyMaterial, context: Mapping[str, str]) -> bytes:
        """
        Wrap a key that comes from another key service. Whoever may, can plant keys they know.

        Raises:
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled, ConfigurationError
        """
        ...

    def rewrap(
        self,
        kms_key: str,
        wrapped: bytes,
        context: Mapping[str, str],
        *,
        to: str,
        to_context: Mapping[str, str],
    ) -> bytes:
        """
        Wrap anew, under the newest version of *to*: the same KMS key, or another of this service.

        The key stays inside the key service where the service can do that.

        Raises:
            Tampered: not wrapped under *kms_key*, or not in *context*.
            KeyServiceDenied, KeyServiceUnreachable, KeyNotFound, KeyDisabled, ConfigurationError
        """
        ...

    def version_of(self, wrapped: bytes) -> str | None:
        """
        Return what the wrapped bytes name the version of their KMS key; None where they do not tell.

        Without a call, and unauthenticated: it says only what is worth a `rewrap`.

        Raises:
            Tampered: not bytes that this service wraps.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKeyStatus:
    """
    A KMS key as its service tells of it.

    Args:
        state: in the service's own word: ``enabled``, ``disabled``, ``pending deletion`` ...
        usable: whether it wraps and unwraps now.
        version: the newest, where versions have numbers.
        rotation: how it rotates by itself, for example ``every 365 days``; None where it does not.
        deletion: when its deletion is due; None where none is pending.
        points_to: for an alias, the key it stands for now.
        policy: what identifies the access policy in effect: a digest, or a manifest's serial.
        last_use: when, as RFC 3339 text; None where the service does not tell.
        latency: of this answer, in seconds.
    """

    kms_key: str
    state: str
    usable: bool
    latency: float
    version: int | None = None
    rotation: str | None = None
    deletion: str | None = None
    points_to: str | None = None
    policy: str | None = None
    last_use: str | None = None


class KmsKeyAdministration(Protocol):
    """What the administering credential does with KMS keys. It unwraps nothing."""

    def status(self, kms_key: str) -> KmsKeyStatus:
        """
        Return how the KMS key is; an alias may be asked for too.

        Raises:
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, ConfigurationError
        """
        ...

    def rotate(self, kms_key: str) -> int | None:
        """
        Give the KMS key new material; what was wrapped before still opens. Returns its number.

        Raises:
            KeyNotFound, KeyServiceDenied, KeyServiceUnreachable, KeyDisabled, ConfigurationError
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

    def versions_of(self, scopes: Collection[Scope]) -> Mapping[Scope, Sequence[KeyRow]]:
        """Return `versions` of each of *scopes*, in few queries."""
        ...

    def holds(self, key_id: bytes) -> bool:
        """Whether any row has this id."""
        ...

    def subjects(self, scope: Scope, digests: Collection[bytes]) -> Mapping[bytes, SubjectRows]:
        """Return those of the subjects that are known, with their keys of *scope*'s tenant and class, in few queries."""
        ...

    def subject_keys_named(
        self, scope: Scope, key_ids: Collection[bytes]
    ) -> Sequence[tuple[KeyRow, SubjectRow | None]]:
        """Return those of the keys of *scope*'s subjects, each with the subject that its digest names."""
        ...


class SubjectWriter(KeyReader, Protocol):
    """Makes subjects and their first keys: all that the run time adds to a key store."""

    def add_subjects(self, rows: Sequence[SubjectRow]) -> None:
        """Insert those whose digest is not there, in one transaction."""
        ...

    def add_subject_keys(self, rows: Sequence[KeyRow]) -> None:
        """
        Insert those whose version is not there and whose subject is, not shredded, in one transaction.

        Raises:
            MisuseError: one of the subjects was shredded at the same moment.
        """
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
