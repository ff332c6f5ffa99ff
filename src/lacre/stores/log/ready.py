# SPDX-License-Identifier: Apache-2.0
"""
Entries that wait, read: what of them may become a leaf.

Implements ``spec/evidence-log.md``, section 5. Sequences nothing (`lacre.stores.log.sequencer`).
"""

from collections.abc import Collection
from typing import NamedTuple

from lacre.audit.accepting import accept
from lacre.audit.entries import Entry, Stamp
from lacre.audit.leaves import Drawn
from lacre.audit.notes import Verifier
from lacre.audit.statements import read_statement
from lacre.errors import Tampered

__all__ = ["Ready", "ready", "says_the_same"]

_STATED = frozenset({"explanation", "retention"})


class Ready(NamedTuple):
    """An entry that was read and may become a leaf."""

    id: bytes
    drawn: Drawn
    line: bytes


def ready(line: bytes, *, accepted: Stamp | None = None, numbered: bool = True, operators: Collection[Verifier] | None = None) -> Ready:  # fmt: skip
    """
    Read an entry.

    Args:
        accepted: whose it has to be, where somebody handed it over (`lacre.audit.accepting`).
        numbered: whether a writer may have numbered it.
        operators: whose statements are taken; None takes what says to be one.

    Raises:
        Tampered: it may not become a leaf.
    """
    entry = Entry.read(line)
    if accepted is not None:
        accept(entry, line, accepted, numbered=numbered)
    if operators is not None and entry.action in _STATED:
        # In the log for years, one that nobody signed would be a finding of every verification.
        said = read_statement(str(entry.members["statement"]), operators)
        if (said.app, said.env) != (entry.members["app"], entry.members["env"]):
            raise Tampered.signed("a statement")
    try:
        id_ = bytes.fromhex(entry.id)
    except ValueError:
        id_ = b""
    if len(id_) != 16:
        raise Tampered.signed("an entry of the log")
    return Ready(id_, Drawn.of(entry), line)


def says_the_same(one: bytes, other: bytes) -> bool:
    """Whether two entries do: whoever handed one over again may have numbered it anew."""
    return one == other or _said(one) == _said(other)


def _said(line: bytes) -> object:
    try:
        members = Entry.read(line).members
    except Tampered:
        return line
    return {name: each for name, each in members.items() if name not in ("writer", "number")}
