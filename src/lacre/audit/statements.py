# SPDX-License-Identifier: Apache-2.0
"""
Statements: what an operator says about the log, signed, so that it counts.

Whoever writes the database can have any entry sequenced, by putting it where entries wait. So an
entry that excuses something (a gap, a shard that is gone, a hold that is over) carries a note that
an operator of ``[local] signers`` signed, which they cannot make. Implements
``spec/evidence-log.md``, section 9. Records nothing.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from lacre.audit.notes import Signer, Verifier, open_note, sign_note
from lacre.errors import MisuseError, Tampered

__all__ = ["ACTS", "Statement", "held_shards", "read_statement", "sign_statement"]

_HEAD = "lacre-audit/statement"
ACTS = frozenset({"explained", "purged", "held", "released"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """
    An operator did *act* (one of `ACTS`) to *about*, for *reason*, at *at* (RFC 3339).

    *about* is what is explained (``silence 2026-11-22T10:00:00.000000Z``), or a shard: with its size
    and root where it is purged (``2019-03 1234 HEX``), by its name alone otherwise.
    """

    app: str
    env: str
    act: str
    about: str
    reason: str
    at: str

    def text(self) -> str:
        """Return the text that is signed. A checkpoint has three lines, so this is never one."""
        if self.act not in ACTS:
            raise MisuseError("no such act")
        # JSON: no text of an operator's breaks its line.
        lines = (self.app, self.env, self.act, self.about, self.at, json.dumps(self.reason))
        return "\n".join((_HEAD, *lines)) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """
        Read what `text` returned.

        Raises:
            Tampered: it is anything else.
        """
        try:
            head, app, env, act, about, at, reason, rest = text.split("\n")
            found = cls(app=app, env=env, act=act, about=about, at=at, reason=json.loads(reason))
            same = head == _HEAD and not rest and found.text() == text
        except (ValueError, TypeError, RecursionError, MisuseError):
            same = False
        if not same:
            raise Tampered.signed("a statement")
        return found


def sign_statement(statement: Statement, signer: Signer) -> str:
    """Return the note of *statement*."""
    return sign_note(statement.text(), [signer])


def read_statement(note: str, operators: Collection[Verifier]) -> Statement:
    """
    Return the statement that *note* is, signed by one of *operators*.

    Raises:
        Tampered: it is none, or nobody believed signed it as it is.
    """
    return Statement.from_text(open_note(note, operators))


def held_shards(statements: Iterable[Statement]) -> dict[str, str]:
    """Return the shards that *statements* leave on hold, by name, and why. A later moment counts: an old statement is no news."""
    latest: dict[str, Statement] = {}
    for each in statements:
        if each.act in ("held", "released") and (
            each.about not in latest or latest[each.about].at < each.at
        ):
            latest[each.about] = each
    return {name: each.reason for name, each in latest.items() if each.act == "held"}
