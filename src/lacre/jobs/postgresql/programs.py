# SPDX-License-Identifier: Apache-2.0
"""
Triggers of a table to protect: those that need the plaintext, and those that must not see the job.

Implements ``spec/protect-postgresql.md``, section "What speaks of the column". PostgreSQL does not know what
a function's body reads; it is searched for the column's name as a word. Changes nothing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lacre.jobs.postgresql.catalogue import UNMARK, UNMARK_NEW, Catalogue, Trigger
from lacre.jobs.postgresql.connection import literal, quoted

__all__ = ["Program", "Refuse", "programs_of", "word"]

Refuse = Callable[[str, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A trigger that the job must not fire: *narrowed* is its definition meanwhile."""

    name: str
    definition: str
    narrowed: str
    enabled: str
    comment: str | None

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def after(self, table: str) -> list[str]:
        """What brings back, after its definition, the rest of it."""
        words = {"A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}
        made = []
        if self.enabled in words:
            made.append(f"ALTER TABLE {table} {words[self.enabled]} TRIGGER {quoted(self.name)}")
        if self.comment is not None:
            made.append(
                f"COMMENT ON TRIGGER {quoted(self.name)} ON {table} IS {literal(self.comment)}"
            )
        return made


def programs_of(catalogue: Catalogue, names: Sequence[str], refuse: Refuse) -> tuple[Program, ...]:
    """Refuse triggers that need the plaintext; return those that the job would fire."""
    found = []
    for trigger in catalogue.triggers():
        if trigger.name in (UNMARK, UNMARK_NEW):
            continue
        mentioned = [
            name
            for name in names
            if re.search(word(name, python=True), trigger.source, re.IGNORECASE)
            or re.search(word(name, python=True), trigger.arguments, re.IGNORECASE)
            or _in_condition(trigger, name)
        ]
        if trigger.enabled != "D" and mentioned:
            refuse(
                f"the trigger {trigger.name}, or its function {trigger.function}, mentions {', '.join(mentioned)}",
                "the database cannot compute with ciphertext: move it to the application",
            )
        elif trigger.enabled != "D" and trigger.on_update and trigger.reads:
            refuse(
                f"the trigger {trigger.name} reads transition tables, and would read what the job writes",
                f"ALTER TABLE ... DISABLE TRIGGER {trigger.name} for the job's time",
            )
        elif trigger.on_update and trigger.name > UNMARK:
            refuse(f"the trigger {trigger.name} fires after lacre's by its name", "rename it")
        elif trigger.on_update:
            found.append(
                Program(
                    name=trigger.name,
                    definition=trigger.definition,
                    narrowed=trigger.definition
                    if trigger.listed
                    else _narrowed(trigger, catalogue.names),
                    enabled=trigger.enabled,
                    comment=trigger.comment,
                )
            )
    return tuple(found)


def _in_condition(trigger: Trigger, name: str) -> bool:
    _, found, condition = trigger.definition.partition(" WHEN (")
    return bool(found) and re.search(word(name, python=True), condition, re.IGNORECASE) is not None


def _narrowed(trigger: Trigger, columns: Sequence[str]) -> str:
    """
    Return a trigger's definition in which its bare UPDATE names *columns*.

    For statements that set any of them, which is all a writer can have said so far, nothing
    changes; statements that only set columns added later no longer fire it.
    """
    listed = ", ".join('"' + column.replace('"', '""') + '"' for column in columns)
    # Events stand before the first ON that no quotes surround, and only names can be quoted.
    pattern = re.compile(
        r'^((?:"(?:[^"]|"")*"|[^"])*? (?:BEFORE|AFTER) (?:[A-Z]+ OR )*?UPDATE)((?: OR [A-Z]+)* ON )'
    )
    return pattern.sub(
        lambda found: f"{found[1]} OF {listed}{found[2]}", trigger.definition, count=1
    )


def word(name: str, *, python: bool = False) -> str:
    """A pattern that finds *name* as a word, for PostgreSQL or for Python."""
    start, end = (r"(?<!\w)", r"(?!\w)") if python else (r"(^|\W)", r"(\W|$)")
    return start + re.sub(r"(\W)", r"\\\1", name) + end
