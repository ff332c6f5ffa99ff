# SPDX-License-Identifier: Apache-2.0
"""
SQLite's schema text: read a ``CREATE TABLE``, and edit it without touching the rest.

Implements ``spec/protect-sqlite.md``, section "The table's text". Knows SQLite's tokens exactly
(quotes of all four kinds, comments, nested parentheses) and of its grammar only what a table
definition needs. Does not decide what may change, and does not talk to a database: whoever uses
it compares the result with what SQLite itself says of the table.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lacre.errors import ConfigurationError

__all__ = [
    "ColumnText",
    "ConstraintText",
    "TableText",
    "Token",
    "edited",
    "folded",
    "identifiers",
    "narrowed_trigger",
    "parse_table",
    "quoted",
    "same_name",
    "tokens",
]

# The order matters: comments before operators, x'..' before words.
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\n\f\r]+)
  | (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
  | (?P<blob>[xX]'[^']*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
  | (?P<number>(?:0[xX][0-9a-fA-F]+|(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?))
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<variable>[?:@$\#][A-Za-z0-9_$:\x80-\U0010ffff]*)
  | (?P<punct>->>|->|<<|>>|<=|>=|<>|!=|==|\|\||[-+*/%&|<>=~(),.;])
    """,
    re.VERBOSE | re.DOTALL,
)

_COLUMN_CONSTRAINTS = frozenset(
    {
        "CONSTRAINT",
        "PRIMARY",
        "NOT",
        "NULL",
        "UNIQUE",
        "CHECK",
        "DEFAULT",
        "COLLATE",
        "REFERENCES",
        "GENERATED",
        "AS",
    }
)
_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token, with its place in the text."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def keyword(self) -> str:
        """The word in capitals; empty for anything quoted, which is never a keyword."""
        return self.text.upper() if self.kind == "word" else ""

    @property
    def name(self) -> str | None:
        """What the token names, if it can name something. SQLite lets even '...' do that."""
        if self.kind == "word":
            return self.text
        if self.kind in ("quoted", "string"):
            quote = self.text[0]
            return self.text[1:-1] if quote == "[" else self.text[1:-1].replace(quote * 2, quote)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintText:
    """
    One constraint: of a column, or of the table.

    *kind* is its first keyword after ``CONSTRAINT name``: PRIMARY, UNIQUE, CHECK, FOREIGN, NOT,
    NULL, DEFAULT, COLLATE, REFERENCES or GENERATED. *start* and *end* are its place.
    """

    kind: str
    start: int
    end: int
    tokens: tuple[Token, ...]

    def says(self, *keywords: str) -> bool:
        """Whether the keywords stand in it one after the other."""
        words = [token.keyword for token in self.tokens]
        return any(tuple(words[at : at + len(keywords)]) == keywords for at in range(len(words)))

    def mentions(self, column: str) -> bool:
        return any(same_name(name, column) for name in identifiers(self.tokens))

    def columns(self) -> tuple[str, ...]:
        """Of a UNIQUE or PRIMARY KEY of the table: the columns it names, in order."""
        named: list[str] = []
        depth, fresh = 0, False
        for token in self.tokens:
            if token.text == "(" and token.kind == "punct":
                depth, fresh = depth + 1, True
            elif token.text == ")" and token.kind == "punct":
                if depth == 1:
                    break
                depth -= 1
            elif token.text == "," and token.kind == "punct":
                fresh = True
            elif depth == 1 and fresh and token.name is not None:
                named.append(token.name)
                fresh = False
        return tuple(named)


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnText:
    """One column definition: its name, its declared type as written, its constraints, its place."""

    name: str
    declared: str
    constraints: tuple[ConstraintText, ...]
    start: int
    end: int

    def has(self, kind: str) -> bool:
        return any(constraint.kind == kind for constraint in self.constraints)

    @property
    def not_null(self) -> bool:
        return self.has("NOT")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableText:
    """A ``CREATE TABLE`` statement, read."""

    sql: str
    name: str
    columns: tuple[ColumnText, ...]
    constraints: tuple[ConstraintText, ...]
    without_rowid: bool
    strict: bool
    name_start: int
    name_end: int

    def column(self, name: str) -> ColumnText:
        return next(column for column in self.columns if same_name(column.name, name))

    @property
    def autoincrement(self) -> bool:
        every = [
            *self.constraints,
            *(item for column in self.columns for item in column.constraints),
        ]
        return any(item.kind == "PRIMARY" and item.says("AUTOINCREMENT") for item in every)


def tokens(sql: str) -> Iterator[Token]:
    """
    Yield the tokens of *sql*, without white space and comments.

    Raises:
        ConfigurationError: something that is no token of SQLite.
    """
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None:
            raise ConfigurationError(f"the schema text is not understood at character {at}")
        kind = match.lastgroup or ""
        if kind not in ("space", "comment"):
            yield Token(kind=kind, text=match.group(), start=at, end=match.end())
        at = match.end()


def identifiers(found: Sequence[Token]) -> Iterator[str]:
    """Yield every name that *found* may mention. String literals count: SQLite may read them as names."""
    for token in found:
        if token.name is not None:
            yield token.name


def same_name(one: str, other: str) -> bool:
    """Whether SQLite takes both for one name: ASCII letters fold, and only those."""
    return folded(one) == folded(other)


def folded(name: str) -> str:
    """Return what SQLite compares *name* by."""
    return "".join(char.lower() if char.isascii() else char for char in name)


def quoted(name: str) -> str:
    """Return *name* as an identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def parse_table(sql: str) -> TableText:
    """
    Read a ``CREATE TABLE`` statement as SQLite keeps it.

    Raises:
        ConfigurationError: it is another statement, or one that is not understood.
    """
    found = list(tokens(sql))
    at = 0
    if _keywords(found, 0, 1) != ["CREATE"]:
        raise _not_understood(sql)
    at = 2 if _keywords(found, 1, 1)[0] in ("TEMP", "TEMPORARY") else 1
    if _keywords(found, at, 1) != ["TABLE"]:
        raise _not_understood(sql)
    at += 1
    if _keywords(found, at, 3) == ["IF", "NOT", "EXISTS"]:
        at += 3
    if at + 2 < len(found) and found[at + 1].text == ".":
        at += 2
    if at + 1 >= len(found) or found[at].name is None or found[at + 1].text != "(":
        raise _not_understood(sql)
    name = found[at]
    items, after = _items(found, at + 2, sql)
    columns = []
    constraints: list[ConstraintText] = []
    for item in items:
        # An item that begins with one of these words, unquoted, is a constraint of the table;
        # between two of those SQLite does not even ask for the comma.
        if item[0].keyword in _TABLE_CONSTRAINTS:
            constraints += _split(item, _TABLE_CONSTRAINTS)
        elif constraints:
            raise _not_understood(sql)
        else:
            columns.append(_column(item, sql))
    options = [token.keyword for token in found[after:]]
    if not columns or set(options) - {"WITHOUT", "ROWID", "STRICT", ""}:
        raise _not_understood(sql)
    return TableText(
        sql=sql,
        name=name.name or "",
        columns=tuple(columns),
        constraints=tuple(constraints),
        without_rowid="WITHOUT" in options,
        strict="STRICT" in options,
        name_start=name.start,
        name_end=name.end,
    )


def edited(
    table: TableText,
    *,
    name: str,
    replace: Mapping[str, str],
    drop: Sequence[ConstraintText],
    append: Sequence[str],
) -> str:
    """
    Return the statement for a table called *name*, otherwise unchanged.

    Args:
        replace: whole column definitions, by column name.
        drop: constraints of the table to leave out.
        append: definitions of new columns, after the last one.
    """
    edits = [(table.name_start, table.name_end, quoted(name))]
    for column in table.columns:
        for wanted, text in replace.items():
            if same_name(column.name, wanted):
                edits.append((column.start, column.end, text))
    if append:
        last = table.columns[-1].end
        edits.append((last, last, "".join(f", {text}" for text in append)))
    everything = list(tokens(table.sql))
    for constraint in drop:
        first = next(at for at, token in enumerate(everything) if token.start == constraint.start)
        last_token = next(at for at, token in enumerate(everything) if token.end == constraint.end)
        before, behind = everything[first - 1], everything[last_token + 1]
        # The comma in front goes too, unless what follows needs it: constraints of a table may
        # follow one another without commas.
        start = (
            before.start if before.text == "," and behind.text in (",", ")") else constraint.start
        )
        edits.append((start, constraint.end, ""))
    sql = table.sql
    # From the end, so that earlier places stay true. The stable sort keeps the replacement of
    # the last column before what is appended behind it.
    for start, end, text in sorted(edits, key=lambda edit: (edit[0], edit[1]), reverse=True):
        sql = sql[:start] + text + sql[end:]
    return sql


def narrowed_trigger(sql: str, columns: Sequence[str]) -> str:
    """
    Return a ``CREATE TRIGGER`` in which a bare ``UPDATE`` event names *columns*.

    For statements that set any of them, which is all a writer can have said so far, nothing
    changes; statements that only set columns added later no longer fire it.
    """
    found = list(tokens(sql))
    for at, token in enumerate(found):
        if token.keyword == "BEGIN":
            break
        # `UPDATE ON` stands nowhere else before the body; a name could be called "update" only
        # in quotes, and a quoted token is no keyword.
        if token.keyword == "UPDATE" and _keywords(found, at + 1, 1) == ["ON"]:
            names = ", ".join(quoted(column) for column in columns)
            return f"{sql[: token.end]} OF {names}{sql[token.end :]}"
    return sql


def _keywords(found: Sequence[Token], at: int, count: int) -> list[str]:
    taken = [token.keyword for token in found[at : at + count]]
    return taken + [""] * (count - len(taken))


def _items(found: Sequence[Token], at: int, sql: str) -> tuple[list[list[Token]], int]:
    """Split at the commas of the outermost parenthesis; return the items and what is after it."""
    items: list[list[Token]] = [[]]
    depth = 1
    while at < len(found):
        token = found[at]
        at += 1
        if token.kind == "punct" and token.text == "(":
            depth += 1
        elif token.kind == "punct" and token.text == ")":
            depth -= 1
            if depth == 0:
                if not all(items):
                    break
                return items, at
        elif token.kind == "punct" and token.text == "," and depth == 1:
            items.append([])
            continue
        items[-1].append(token)
    raise _not_understood(sql)


def _column(item: Sequence[Token], sql: str) -> ColumnText:
    name = item[0].name
    if name is None:
        raise _not_understood(sql)
    at, depth = 1, 0
    while at < len(item) and (depth or item[at].keyword not in _COLUMN_CONSTRAINTS):
        depth += {"(": 1, ")": -1}.get(item[at].text, 0) if item[at].kind == "punct" else 0
        at += 1
    declared = sql[item[1].start : item[at - 1].end] if at > 1 else ""
    return ColumnText(
        name=name,
        declared=declared,
        constraints=tuple(_split(item[at:], _COLUMN_CONSTRAINTS)),
        start=item[0].start,
        end=item[-1].end,
    )


def _split(item: Sequence[Token], starters: frozenset[str]) -> list[ConstraintText]:
    """Cut a run of constraints into single ones."""
    starts: list[int] = []
    depth = 0
    previous = ""
    for at, token in enumerate(item):
        if token.kind == "punct" and token.text in "()":
            depth += 1 if token.text == "(" else -1
        elif (
            depth == 0
            and token.keyword in starters
            and _begins(token.keyword, previous, _keywords(item, at + 1, 2))
        ):
            # What a CONSTRAINT names begins with it.
            named = bool(starts) and starts[-1] == at - 2 and item[at - 2].keyword == "CONSTRAINT"
            if not named:
                starts.append(at)
        previous = token.keyword
    ends = [*starts[1:], len(item)] if starts else []
    pieces = [item[start:end] for start, end in zip(starts, ends, strict=True)]
    return [_constraint(piece) for piece in pieces]


def _begins(keyword: str, previous: str, following: Sequence[str]) -> bool:
    if keyword == "NULL":  # NOT NULL, DEFAULT NULL, SET NULL
        return previous not in ("NOT", "DEFAULT", "SET")
    if keyword == "DEFAULT":  # ON DELETE SET DEFAULT
        return previous != "SET"
    if keyword == "NOT":  # NOT DEFERRABLE belongs to REFERENCES
        return following[0] != "DEFERRABLE"
    if keyword == "AS":  # GENERATED ALWAYS AS
        return previous != "ALWAYS"
    return previous not in ("DEFAULT", "COLLATE")


def _constraint(piece: Sequence[Token]) -> ConstraintText:
    kind = piece[0].keyword
    if kind == "CONSTRAINT":
        kind = piece[2].keyword if len(piece) > 2 else "CONSTRAINT"
    return ConstraintText(
        kind="GENERATED" if kind == "AS" else kind,
        start=piece[0].start,
        end=piece[-1].end,
        tokens=tuple(piece),
    )


def _not_understood(sql: str) -> ConfigurationError:
    return ConfigurationError(
        "the table's CREATE statement is not understood",
        hint="only ordinary tables can be protected, not virtual ones; please report the definition",
    )
