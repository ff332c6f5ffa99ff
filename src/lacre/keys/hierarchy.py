# SPDX-License-Identifier: Apache-2.0
"""
What a stored key is: its scope, its row, its states, and what authenticates each.

Implements ``spec/key-rows.md``. Does not store, cache or unwrap anything.

Rule 1: a key serves one scope: one kind of use, tenant and class of one service.
Rule 2: every immutable column of a row is in `immutable`, which the wrap authenticates.
Rule 3: steps towards less use need no proof, steps towards more use need the key itself.
"""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass, replace
from enum import StrEnum

from lacre._core.canonical import canonical
from lacre._core.derive import STATE, expand
from lacre.errors import MisuseError
from lacre.sensitive import KeyMaterial

__all__ = [
    "KeyKind",
    "KeyRow",
    "KeyState",
    "Scope",
    "SubjectRow",
    "SubjectRows",
    "state_mac",
    "subject_digest",
]


class KeyKind(StrEnum):
    """What a key may do, and nothing else."""

    BRANCH = "branch"  # only wraps
    DATA = "data"  # only encrypts values
    SUBJECT = "subject"  # only encrypts values, of one subject
    INDEX = "index"  # only derives index keys
    SEAL = "seal"  # only wraps bucket keys
    BUCKET = "bucket"  # only wraps subject keys once more, around their branch key's wrap

    @property
    def under_kms(self) -> bool:
        """Whether a KMS key wraps keys of this kind; otherwise a key of the key store does."""
        return self in (KeyKind.BRANCH, KeyKind.INDEX, KeyKind.SEAL)


class KeyState(StrEnum):
    """The life of a key version (NIST SP 800-57 part 1, section 7)."""

    PENDING = "pending"
    ACTIVE = "active"
    DECRYPT_ONLY = "decrypt_only"
    DISABLED = "disabled"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"


# From each state, the states a key may go to. `destroyed` is final.
_STEPS: dict[KeyState, frozenset[KeyState]] = {
    KeyState.PENDING: frozenset({KeyState.ACTIVE, KeyState.DESTROYED}),
    KeyState.ACTIVE: frozenset(
        {KeyState.DECRYPT_ONLY, KeyState.DISABLED, KeyState.COMPROMISED, KeyState.DESTROYED}
    ),
    KeyState.DECRYPT_ONLY: frozenset({KeyState.DISABLED, KeyState.COMPROMISED, KeyState.DESTROYED}),
    KeyState.DISABLED: frozenset(
        {KeyState.ACTIVE, KeyState.DECRYPT_ONLY, KeyState.COMPROMISED, KeyState.DESTROYED}
    ),
    KeyState.COMPROMISED: frozenset({KeyState.DESTROYED}),
    KeyState.DESTROYED: frozenset(),
}

# States in which a key does something. They carry a MAC under the key itself; without a right
# one they count as disabled, so that whoever writes the key store cannot invent one.
USABLE = frozenset({KeyState.ACTIVE, KeyState.DECRYPT_ONLY})

_ROW_LABEL = b"lacre/1/keyrow".ljust(16, b"\0")
_SUBJECT_LABEL = b"lacre/1/subject".ljust(16, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """
    Whose key, and for what. The model and the acting choose it, never a ciphertext.

    *subject* is a subject key's random pseudonym, 32 hex digits, as the key store assigned it.
    """

    kind: KeyKind
    app: str
    env: str
    service: str
    tenant: str
    class_: str
    subject: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} key of tenant {self.tenant!r}, class {self.class_!r}"

    def of_kind(self, kind: KeyKind) -> "Scope":
        """Return the scope of the tenant's and class's keys of another kind: of no single subject."""
        return replace(self, kind=kind, subject=None)

    def above(self) -> "Scope":
        """Return the scope of the key that wraps this one, which is not under a KMS key itself."""
        return self.of_kind(KeyKind.SEAL if self.kind is KeyKind.BUCKET else KeyKind.BRANCH)

    def pairs(self) -> dict[str, str]:
        """The policy pairs: what a key service sees and can put conditions on."""
        return {
            "app": self.app,
            "class": self.class_,
            "env": self.env,
            "kind": str(self.kind),
            "service": self.service,
            "tenant": self.tenant,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """
    One version of one key, as the key store holds it.

    *parent* is the 32-digit hex id of the key that wraps it, or the URI of the KMS key that
    does. *wrapped* is None once destroyed. *revision* counts the changes of the mutable columns
    (`state`, `revision`, `changed`, `mac`), starting at 1. *digest* is a subject key's, of whose
    it is (`subject_digest`); it goes when the key is destroyed.
    """

    key_id: bytes
    scope: Scope
    version: int
    parent: str
    suite: int
    created: str
    keystore: str
    wrapped: bytes | None
    state: KeyState
    revision: int
    changed: str
    mac: bytes | None
    digest: bytes | None = None

    def immutable(self) -> bytes:
        """The canonical bytes of every column that never changes: `R` of the specification."""
        pairs = self.scope.pairs() | {
            "created": self.created,
            "key": self.key_id.hex(),
            "keystore": self.keystore,
            "parent": self.parent,
            "suite": str(self.suite),
            "version": str(self.version),
        }
        if self.scope.subject is not None:
            pairs["subject"] = self.scope.subject
        if self.digest is not None:
            # Beside the pseudonym: whoever writes the key store cannot give one subject's keys
            # to another by pointing another digest at the same pseudonym.
            pairs["digest"] = self.digest.hex()
        return canonical(pairs)

    def wrap_context(self) -> dict[str, str]:
        """
        The eight pairs bound in a wrap under a KMS key.

        Six policy pairs, none of them personal; the key's id, which makes a key service's log
        reconcilable; and a digest of every immutable column.
        """
        digest = hashlib.sha256(_ROW_LABEL + self.immutable()).digest()
        return self.scope.pairs() | {
            "lacre-key": self.key_id.hex(),
            "lacre-row": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }

    def stepped(
        self, state: KeyState, *, changed: str, material: KeyMaterial | None = None
    ) -> "KeyRow":
        """
        Return this row one step on, in *state*.

        Args:
            changed: when, as RFC 3339 text in UTC.
            material: the key itself; required for a usable state, whose MAC it makes.

        Raises:
            MisuseError: the step is not allowed, or the material is missing.
        """
        if state not in _STEPS[self.state]:
            allowed = ", ".join(sorted(_STEPS[self.state])) or "nothing: it is final"
            raise MisuseError(
                f"a key that is {self.state} does not become {state}",
                hint=f"from {self.state} it may become: {allowed}",
            )
        row = replace(self, state=state, revision=self.revision + 1, changed=changed, mac=None)
        if state is KeyState.DESTROYED:
            return replace(row, wrapped=None, digest=None)
        return row.sealed(material) if state in USABLE else row

    def sealed(self, material: KeyMaterial | None) -> "KeyRow":
        """Return this row with the MAC of its mutable columns."""
        if material is None:
            raise MisuseError(
                f"a key becomes {self.state} only in the hands of someone who can unwrap it"
            )
        return replace(self, mac=state_mac(material, self))

    def trusted_state(self, material: KeyMaterial) -> KeyState:
        """
        Return the state, or `disabled` where a usable state lacks its right MAC.

        No step leads to `pending`: a row that was changed since it was minted is disabled, not
        pending, so that nobody who may unwrap brings a compromised key back unasked.
        """
        if self.state is KeyState.PENDING and self.revision != 1:
            return KeyState.DISABLED
        if self.state not in USABLE:
            return self.state
        if self.mac is None or not hmac.compare_digest(self.mac, state_mac(material, self)):
            return KeyState.DISABLED
        return self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRow:
    """
    One subject, as the key store knows it: never by its own id.

    *pseudonym* is random, and in every key of the subject's. A *shredded* subject has none: what is
    left is a tombstone, so that nothing makes it a key again. *hold* is why it is not shredded.
    """

    digest: bytes
    pseudonym: str | None
    created: str
    shredded: str | None = None
    hold: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectRows:
    """A subject, and every version of its key in one scope, highest first."""

    subject: SubjectRow
    versions: tuple[KeyRow, ...]


def subject_digest(scope: Scope, subject: str) -> bytes:
    """
    Return the digest that stands for *subject*, the text of an id, among the tenant's subjects.

    Not a secret: whoever guesses an id can compare. It keeps the ids themselves out of the key
    store, and it is the same for every class, so that one tombstone ends them all.
    """
    pairs = {
        "app": scope.app,
        "env": scope.env,
        "service": scope.service,
        "subject": subject,
        "tenant": scope.tenant,
    }
    return hashlib.sha256(_SUBJECT_LABEL + canonical(pairs)).digest()


def state_mac(material: KeyMaterial, row: KeyRow) -> bytes:
    """Return the MAC of the row's mutable columns, under the key itself."""
    pairs = {
        "changed": row.changed,
        "key": row.key_id.hex(),
        "revision": str(row.revision),
        "state": str(row.state),
    }
    return expand(material.reveal(), STATE, canonical(pairs), 32)
