# SPDX-License-Identifier: Apache-2.0
"""
What is asked for, what people do about it, and the bytes that they sign.

A request never changes. Each act about it (an approval, its execution, a revocation, a review) is a
row of its own, signed over the whole request: an approval says nothing about another request, and
nothing about this one with a letter changed. Verifies and keeps nothing (`lacre.policy.grants.judging`).
"""

import datetime as dt
import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lacre._core.canonical import canonical
from lacre.errors import Tampered
from lacre.keys.moments import moment_text

__all__ = ["Act", "GrantAct", "GrantRecord", "GrantRequest", "Signatory", "Signing", "seconds"]

# 16 bytes like every label: no other signed message of lacre begins with it, and none of a note
# of the evidence log, which begins "lacre-audit/". So a signature of one kind is never another's.
_LABEL = b"lacre/1/grant".ljust(16, b"\0")


class Act(StrEnum):
    """What somebody does about a grant. It is among what they sign: an approval is no review."""

    REQUEST = "request"
    APPROVE = "approve"
    EXECUTE = "execute"
    REVOKE = "revoke"
    EXPIRE = "expire"
    REVIEW = "review"
    OTHER = "other"  # of a release that this one does not know: it gives nothing


class Signatory(Protocol):
    """The public side of an identity. *fingerprint* is of all its keys, *ed25519* the one it signs with."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def ed25519(self) -> bytes: ...

    def verify(self, message: bytes, signature: bytes, /) -> None:
        """Raise `Tampered` unless it signed *message*."""
        ...


class Signing(Protocol):
    """An identity that can sign."""

    @property
    def fingerprint(self) -> str: ...

    def sign(self, message: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRequest:
    """
    What *requester* asks for *beneficiary*: *right* on *class_* for *purpose*, from *not_before* until *until*.

    Times are RFC 3339 text in UTC. *tenant* is empty for every tenant's data; *approve_by* is when
    approvals end; *policy* is the digest of the rules it was made under; *change* is the exact text
    of what is done at the key service, empty where nothing is; *keystore* is the key store's id.
    *nonce* is 16 random bytes in hex. *signer* is the requester's fingerprint.
    """

    id: str
    nonce: str
    keystore: str
    app: str
    env: str
    service: str
    requester: str
    beneficiary: str
    class_: str
    right: str
    purpose: str
    tenant: str
    requested: str
    not_before: str
    until: str
    approve_by: str
    break_glass: bool
    reason: str
    policy: str
    change: str
    signer: str
    signature: bytes = field(default=b"", repr=False)

    @property
    def change_digest(self) -> str:
        """The SHA-256 of the change, hex: of no bytes where there is none."""
        return hashlib.sha256(self.change.encode()).hexdigest()

    def signed_bytes(self, act: Act, *, name: str, at: str, signer: str, note: str = "") -> bytes:
        """Return what *signer*, who is called *name*, signs to do *act* to this request at *at*."""
        return _LABEL + canonical(
            {
                "act": str(act),
                "app": self.app,
                "approve-by": self.approve_by,
                "at": at,
                "beneficiary": self.beneficiary,
                "break-glass": "yes" if self.break_glass else "no",
                "change": self.change_digest,
                "class": self.class_,
                "env": self.env,
                "grant": self.id,
                "keystore": self.keystore,
                "name": name,
                "nonce": self.nonce,
                "not-before": self.not_before,
                "note": note,
                "policy": self.policy,
                "purpose": self.purpose,
                "reason": self.reason,
                "requested": self.requested,
                "requester": self.requester,
                "requester-key": self.signer,
                "right": self.right,
                "service": self.service,
                "signer": signer,
                "tenant": self.tenant,
                "until": self.until,
            }
        )

    def own_bytes(self) -> bytes:
        """Return what the requester signs."""
        return self.signed_bytes(
            Act.REQUEST, name=self.requester, at=self.requested, signer=self.signer
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantAct:
    """
    One act about the grant *grant*: *name* did it at *at*, and *signer* is the fingerprint of who signed.

    *number* counts the acts of one grant from 1, so two at one moment race for it. *note* is one
    line, such as a reason.
    """

    grant: str
    number: int
    act: Act
    name: str
    at: str
    note: str
    signer: str
    signature: bytes = field(default=b"", repr=False)

    def signed_by(self, request: GrantRequest, who: Signatory | None) -> bool:
        """Whether *who* signed this act, about *request* as it is."""
        if who is None or who.fingerprint != self.signer or self.grant != request.id:
            return False
        message = request.signed_bytes(
            self.act, name=self.name, at=self.at, signer=self.signer, note=self.note
        )
        try:
            who.verify(message, self.signature)
        except Tampered:
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRecord:
    """A request and the acts about it, in their order."""

    request: GrantRequest
    acts: tuple[GrantAct, ...] = ()


def seconds(text: str) -> float:
    """
    Return the moment that *text* is, in seconds since 1970.

    Raises:
        Tampered: it is not written as `lacre.keys.moments.moment_text` writes one.
    """
    try:
        found = dt.datetime.fromisoformat(text)
        same = found.tzinfo is not None and moment_text(found) == text
    except (ValueError, OverflowError):
        same = False
    if not same:
        raise Tampered.signed("a grant")
    return found.timestamp()
