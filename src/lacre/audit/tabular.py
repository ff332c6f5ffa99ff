# SPDX-License-Identifier: Apache-2.0
"""
Leaves for other eyes: a line of a terminal, a row of a spreadsheet, an object for a program.

What an entry holds was once given by somebody: a principal's name, a user agent. So a line stays
one line, a field one field, and a cell is never a formula. Does not read the log
(`lacre.stores.log.reader`) and prints nothing.
"""

import csv
import io
import json
import unicodedata
from typing import Any

from lacre.audit.leaves import Leaf, shard_name, written_moment

__all__ = ["COLUMNS", "as_line", "as_object", "as_row", "heading"]

COLUMNS = (
    "sequenced", "shard", "seq", "id", "time", "action", "step", "outcome", "status", "success",
    "principal", "roles", "purpose", "tenant", "app", "env", "service", "code", "store", "table", "column", "class",
    "rule", "count", "rows", "subjects", "key", "reason", "ip", "agent", "correlation", "writer", "number", "hash",
)  # fmt: skip

# What a spreadsheet takes for the beginning of a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def as_line(leaf: Leaf) -> str:
    """Return one line for people: when, what, who, where, why. Fields are apart by spaces; one that holds any is quoted."""
    members = leaf.entry.members
    where = ".".join(
        str(members[name]) for name in ("store", "table", "column") if members.get(name)
    )
    fields = [members["time"], members["action"]]
    fields += [members[name] for name in ("step", "outcome") if members.get(name)]
    fields += [members["principal"], where, members.get("class", "")]
    words = [_word(each) for each in fields if each]
    if members["status"] != "compliant":
        words.insert(2, f"[{_word(members['status'])}]")
    named = ("count", "purpose", "tenant", "reason", "ip", "correlation")
    words += [f"{name}={_word(members[name])}" for name in named if members.get(name)]
    return "  ".join(words)


def as_object(leaf: Leaf) -> str:
    """Return one line of JSON: the entry, and its place in the log. The entry in it is its canonical form."""
    said = {
        "shard": shard_name(leaf.shard),
        "seq": leaf.seq,
        "sequenced": written_moment(leaf.sequenced),
        "hash": leaf.hash.hex(),
        "entry": dict(leaf.entry.members),
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def heading() -> str:
    """Return the first line of a table of comma-separated values."""
    return _joined(COLUMNS)


def as_row(leaf: Leaf) -> str:
    """Return one line of comma-separated values, in the order of `COLUMNS`."""
    known: dict[str, Any] = {
        **leaf.entry.members,
        "shard": shard_name(leaf.shard),
        "seq": leaf.seq,
        "sequenced": written_moment(leaf.sequenced),
        "hash": leaf.hash.hex(),
    }
    return _joined([_cell(known.get(name, "")) for name in COLUMNS])


def _joined(cells: Any) -> str:
    held = io.StringIO()
    csv.writer(held, lineterminator="").writerow(cells)
    return held.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    # An apostrophe before it: a spreadsheet shows the text and does not run it.
    return _seen("'" + text if text.lstrip(" ").startswith(_FORMULA) else text)


def _word(value: Any) -> str:
    text = str(value)
    plain = text and not any(character.isspace() or character in '"=' for character in text)
    return _seen(text if plain else json.dumps(text, ensure_ascii=False))


def _seen(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSEEN
        else character
        for character in text
    )
