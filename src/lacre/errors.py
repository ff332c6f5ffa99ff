# SPDX-License-Identifier: Apache-2.0
"""
The error tree: what can go wrong, and what to do about it.

Does not print, log or exit; it holds no plaintext, key or token, ever. Each class has a stable
*code*, the anchor of its section in ``docs/errors.md``.

LacreError
    Tampered              the bytes, or their place, are not what was written
    AccessDenied          the policy says no
    NotAddressed          an event for someone else: a normal outcome
    KeyUnavailable        the value may be fine, its key cannot be had
        KeyNotFound
        KeyDisabled
        KeyDestroyed
        KeyExpired
        KeyServiceDenied
        KeyServiceUnreachable
        KeyStoreUnreachable
    ActingError           nobody, or nobody any more, is acting
        NoPrincipal
        NoTenant
        ActingEnded
    EvidenceUnavailable   the recorder is down or full
    AlertNotDelivered     a channel of alerts did not take a message
    RowBudgetExceeded     a bulk reading found more rows than it may hand out
    ReadingFailed         the process that reads in bulk ended without finishing
    PlaintextFound        plaintext where only ciphertext may be
    AlreadyEncrypted      ciphertext given to be encrypted
    MaskWritten           a mask given to be encrypted
    InvalidValue          a value its type or normaliser cannot carry
    DuplicateValue        a unique blind index already holds this value
    SubjectHeld           a subject under a legal hold is not shredded
    UnsupportedQuery      a question ciphertext cannot answer
    ConfigurationError    yours to fix, with a hint
        PolicyNotUnderstood
    MisuseError           called out of order: a bug, not data
"""

from typing import ClassVar

__all__ = [
    "AccessDenied",
    "ActingEnded",
    "ActingError",
    "AlertNotDelivered",
    "AlreadyEncrypted",
    "ConfigurationError",
    "DuplicateValue",
    "EvidenceUnavailable",
    "InvalidValue",
    "KeyDestroyed",
    "KeyDisabled",
    "KeyExpired",
    "KeyNotFound",
    "KeyServiceDenied",
    "KeyServiceUnreachable",
    "KeyStoreUnreachable",
    "KeyUnavailable",
    "LacreError",
    "MaskWritten",
    "MisuseError",
    "NoPrincipal",
    "NoTenant",
    "NotAddressed",
    "PlaintextFound",
    "PolicyNotUnderstood",
    "ReadingFailed",
    "RowBudgetExceeded",
    "SubjectHeld",
    "Tampered",
    "UnsupportedQuery",
]


class LacreError(Exception):
    """
    The root of the tree. Never raised itself.

    *hint* is one sentence that says what to do; the command line prints it under the error.
    *retryable* is true where the same call may succeed later without any change.
    """

    code: ClassVar[str] = "lacre"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Tampered(LacreError):
    """
    The bytes, or the place they were found in, are not what was written.

    One face for a wrong magic byte, suite, flag, key id, scope, commitment, tag or padding: a
    reason would be an oracle, so it takes none. The value is lost or was moved; restore the row.
    """

    code = "tampered"

    def __init__(self) -> None:
        super().__init__(
            "the value does not open in this place",
            hint="restore the row from a backup; see docs/errors.md#tampered",
        )

    @classmethod
    def signed(cls, what: str) -> "Tampered":
        """Return the error of *what* somebody signed and is another by now. Nothing is decrypted there: to say so is no oracle."""
        made = cls()
        LacreError.__init__(
            made,
            f"{what} is not what its signer signed: it was changed, or cut",
            hint="take it from where it was issued, or from a backup",
        )
        return made


class AccessDenied(LacreError):
    """The policy does not give this principal the right, for this purpose."""

    code = "access-denied"


class NotAddressed(LacreError):
    """The event is for another audience. A normal outcome: skip it."""

    code = "not-addressed"


class KeyUnavailable(LacreError):
    """The key that a value needs cannot be had. Never raised itself."""

    code = "key-unavailable"


class KeyNotFound(KeyUnavailable):
    """No key of that scope in the key store: the tenant or class was never provisioned."""

    code = "key-not-found"


class KeyDisabled(KeyUnavailable):
    """The key's state does not allow this use (pending, disabled or compromised)."""

    code = "key-disabled"


class KeyDestroyed(KeyUnavailable):
    """The key was destroyed. What it protected cannot be read again."""

    code = "key-destroyed"


class KeyExpired(KeyUnavailable):
    """The cached key is past its age and no I/O is allowed here: prepare it first."""

    code = "key-expired"


class KeyServiceDenied(KeyUnavailable):
    """The key service refused the credential, or the key it was asked for."""

    code = "key-service-denied"


class KeyServiceUnreachable(KeyUnavailable):
    """The key service did not answer in time."""

    code = "key-service-unreachable"
    retryable = True


class KeyStoreUnreachable(KeyUnavailable):
    """The key store did not answer in time, or dropped the connection."""

    code = "key-store-unreachable"
    retryable = True


class ActingError(LacreError):
    """Who acts, or for whom, is not known. Never raised itself."""

    code = "acting"


class NoPrincipal(ActingError):
    """Nobody is acting: the call is outside every `acting_as` block."""

    code = "no-principal"


class NoTenant(ActingError):
    """No tenant was named and the configuration has no default."""

    code = "no-tenant"


class ActingEnded(ActingError):
    """The code still runs in the context of an `acting_as` block that is over."""

    code = "acting-ended"


class EvidenceUnavailable(LacreError):
    """The recorder is down or full, so the access it would have to record is refused."""

    code = "evidence-unavailable"
    retryable = True


class AlertNotDelivered(LacreError):
    """
    A channel of alerts did not take a message. Says neither its address nor what it answered.

    *refused* is true where the receiver answered and does not want this message; *after* is for how
    many seconds it asks to be left alone, or 0.
    """

    code = "alert-not-delivered"
    retryable = True

    def __init__(
        self, message: str, *, hint: str = "", refused: bool = False, after: float = 0.0
    ) -> None:
        super().__init__(message, hint=hint)
        self.refused = refused
        self.after = after


class RowBudgetExceeded(LacreError):
    """A bulk reading found more rows than its budget; what it wrote is removed."""

    code = "row-budget-exceeded"


class ReadingFailed(LacreError):
    """The process that reads in bulk ended without finishing. What it wrote is removed."""

    code = "reading-failed"


class PlaintextFound(LacreError):
    """Something that is not a lacre value where only those may be: the state is `encrypted`, or the deadline past."""

    code = "plaintext-found"


class AlreadyEncrypted(LacreError):
    """A lacre value was given to be encrypted again."""

    code = "already-encrypted"


class MaskWritten(LacreError):
    """A mask was given to be encrypted: it would replace the value it hides."""

    code = "mask-written"


class InvalidValue(LacreError, ValueError):
    """The value is not one its type or its normaliser can carry. Never quotes the value."""

    code = "invalid-value"


class DuplicateValue(LacreError):
    """A unique blind index already holds this value."""

    code = "duplicate-value"


class SubjectHeld(LacreError):
    """The subject is under a legal hold: nothing of it is erased until the hold is lifted."""

    code = "subject-held"


class UnsupportedQuery(LacreError):
    """The query asks something of an encrypted column that ciphertext cannot answer."""

    code = "unsupported-query"


class ConfigurationError(LacreError):
    """Something in the configuration or the declaration is wrong, and yours to fix."""

    code = "configuration"


class PolicyNotUnderstood(ConfigurationError):
    """A policy of a key service holds something that the evaluator does not know, so it says neither yes nor no."""

    code = "policy-not-understood"


class MisuseError(LacreError):
    """Called out of order, or with something no caller should pass: a bug, not data."""

    code = "misuse"
