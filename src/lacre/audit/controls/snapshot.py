# SPDX-License-Identifier: Apache-2.0
"""
Evidence snapshots: the facts that a report is a function of, in one spelling, signed.

A file is one line of canonical JSON, and a C2SP note over the SHA-256 of that line. The body holds
counts and names of columns, never a value and nobody's name but the signer's. Implements
``spec/evidence-snapshot.md``. Does not gather facts (`lacre.reporting.gathering`) or judge them.

The text that is signed begins ``lacre-snapshot/``: no checkpoint (``lacre-audit/``) and no label of
another signed message (``lacre/``) begins so, and one is never taken for the other.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Self

from lacre.audit.controls.definition import Body
from lacre.audit.notes import Signer, Verifier, open_note, sign_note
from lacre.errors import ConfigurationError, Tampered

__all__ = ["FORMAT", "LONGEST", "MEMBERS", "Snapshot"]

FORMAT = "lacre-evidence-snapshot-1"
LONGEST = 64 * 1024 * 1024
MEMBERS = frozenset(
    [
        "accesses",
        "alerts",
        "anchors",
        "app",
        "by",
        "code",
        "columns",
        "coverage",
        "definition",
        "drift",
        "drills",
        "env",
        "erasures",
        "format",
        "grants",
        "history",
        "keys",
        "log",
        "made",
        "manual",
        "period",
        "policy",
        "reconciliation",
        "rules",
        "secrets",
        "service",
    ]
)

_ENCODED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot: its *line*, which is what was signed, and the *body* that is read of it."""

    line: bytes
    body: Body

    @classmethod
    def of(cls, body: Body) -> Self:
        """Return the snapshot that says *body*."""
        line = _ENCODED(dict(body)).encode("ascii")
        return cls(line, json.loads(line))

    @property
    def sha256(self) -> str:
        """What a report prints, and names the snapshot by: 64 hex digits."""
        return hashlib.sha256(self.line).hexdigest()

    def signed(self, signer: Signer) -> bytes:
        """Return the file, signed by *signer*."""
        return self.line + b"\n" + sign_note(self._text(), [signer]).encode()

    @classmethod
    def read(cls, data: bytes, verifiers: Collection[Verifier]) -> Self:
        """
        Read a file that one of *verifiers* signed.

        Raises:
            ConfigurationError: it is no snapshot, or of another format.
            Tampered: nobody believed signed it as it is.
        """
        line, _, note = data.partition(b"\n")
        body = _parsed(line) if len(data) <= LONGEST else None
        if body is None:
            raise ConfigurationError(
                "the file is no evidence snapshot", hint="lacre audit snapshot makes one"
            )
        found = cls(line, body)
        try:
            text = open_note(note.decode(), verifiers)
        except UnicodeDecodeError:
            raise Tampered.signed("a snapshot") from None
        # Members are looked at after the signature: of what nobody signed nothing is said but that.
        if text != found._text() or body.keys() != MEMBERS or _ENCODED(body).encode() != line:
            raise Tampered.signed("a snapshot")
        return found

    def _text(self) -> str:
        return (
            f"lacre-snapshot/{_word(self.body['app'])}/{_word(self.body['env'])}\n{self.sha256}\n"
        )


def _word(name: Any) -> str:
    # Names of lacre.toml have no slash and no newline; a forged body may.
    return "".join(each for each in str(name) if each.isalnum() or each in "._-")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        return None
    if type(body) is not dict or body.get("format") != FORMAT:
        return None
    return body if {"app", "env"} <= body.keys() else None
