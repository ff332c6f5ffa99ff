# SPDX-License-Identifier: Apache-2.0
"""
What to think of the blind indexes that a table's model declares, and what to declare instead.

A finding refuses a declaration, or notes what it shows; a waiver takes a refusal back, with its
reason. All indexes of a table are judged together: whoever has the table has all of them. Sentences
are for somebody who never heard of K; figures are in the fields.

Does no I/O and sees no value (`lacre.fields.planning`, `lacre.sqlalchemy.histograms`).
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, floor, log2

from lacre.fields.normalisers import normaliser
from lacre.fields.planning import (
    EXACT,
    FEWEST_ROWS,
    Distribution,
    Lengths,
    by_rows,
    by_values,
    coincidences,
    false_positives,
    shared_out,
)

__all__ = [
    "SHORTEST",
    "Advice",
    "Declared",
    "Finding",
    "TableAdvice",
    "Waiver",
    "advise",
    "possible_values",
]

SHORTEST = 8  # bits that an index may be declared with
_FEW = 16  # values: K of 4 bits
_ALONE = 0.9  # of the values: if so many have a token of their own, the others hide nobody
_COMMON = 0.05  # of the rows: a value so common is recognised by how common it is

# Of an index whose length alone is wrong.
_VERDICTS = {"few-rows": "TOO FEW ROWS", "too-long": "TOO LONG", "too-short": "TOO SHORT"}

# What can be tried out one by one: how many there are.
_ENUMERABLE = {
    "cpf": (10**9, "CPFs"),
    "aadhaar": (8 * 10**10, "Aadhaar numbers"),
    "in_pan": (26**4 * 10**5, "Indian PANs"),
    "card_pan": (10**15, "card numbers, and 100,000 where the first six and last four digits are known"),
    "phone": (10**10, "telephone numbers of a country, at most"),
    "cnpj": (10**12, "numeric CNPJs, which are public"),
    "routing_number": (10**8, "routing numbers, which are public"),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """
    One index as a model declares it, and what its column holds.

    Args:
        column: COLUMN, or of a compound index the attribute's name.
        entries: how often each token occurs, or would.
        values: how often each value occurs, where a row has several tokens; else *entries*.
        possible: how many values the column's type has, where that is few.
        read_from: `values`, `tokens`, or `decrypted` values.
    """

    column: str
    name: str
    kind: str
    normaliser: str
    bits: int
    unique: bool
    entries: Distribution
    values: Distribution
    possible: int | None = None
    read_from: str = "values"

    @property
    def exact(self) -> bool:
        return self.bits >= EXACT

    @property
    def in_parts(self) -> bool:
        return self.kind in ("prefix", "contains")

    @property
    def told(self) -> float:
        """What its tokens tell of a row, in bits: min(length, K), for all tokens of the row."""
        return min(self.bits * self.per_row, self.values.domain_bits)

    @property
    def per_row(self) -> float:
        return max(self.entries.per_row, 1.0)

    @property
    def alone(self) -> float:
        """The part of the values that share their token with no other, by chance."""
        return exp(-max(self.entries.values - 1, 0.0) / 2.0**self.bits)

    def __str__(self) -> str:
        return f"{self.column}:{self.name}"


def possible_values(python_type: type) -> int | None:
    """Return how many values *python_type* has, where they are few; else None."""
    if python_type is bool:
        return 2
    return len(python_type) or None if issubclass(python_type, enum.Enum) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to say of an index, or of a table (*index* empty). *waived*: why it is accepted."""

    code: str
    says: str
    refuses: bool
    index: str = ""
    waived: str = ""

    @property
    def fails(self) -> bool:
        return self.refuses and not self.waived


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that somebody accepted, of TABLE, TABLE.COLUMN or TABLE.COLUMN:INDEX."""

    of: str
    finding: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """
    What to think of one index.

    *lengths* are those that are safe, None where the length is not what decides; *bits* is the
    length to declare, None to leave the index as it is, 0 to give it up or to show equality openly.
    """

    declared: Declared
    lengths: Lengths | None
    bits: int | None
    in_vain: float
    in_vain_then: float
    findings: tuple[Finding, ...]

    @property
    def fails(self) -> bool:
        return any(finding.fails for finding in self.findings)

    @property
    def verdict(self) -> str:
        """All of it in a few words: what fails, where that is one thing."""
        failing = {finding.code for finding in self.findings if finding.fails}
        if not failing:
            return "WAIVED" if any(finding.waived for finding in self.findings) else "ok"
        if failing == {"too-long"} and self.declared.alone >= _ALONE:
            return "SHOWS EQUAL VALUES"
        return _VERDICTS.get("".join(failing), "NOT SAFE") if len(failing) == 1 else "NOT SAFE"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableAdvice:
    """What to think of a table's indexes together."""

    table: str
    rows: int
    indexes: tuple[Advice, ...]
    told: float  # by the indexes that blur, bits
    told_by_all: float
    findings: tuple[Finding, ...]

    @property
    def fails(self) -> bool:
        return any(f.fails for f in self.findings) or any(each.fails for each in self.indexes)

    @property
    def alike(self) -> float:
        """How many rows share all tokens of a row, by the indexes that blur."""
        return coincidences(self.rows, self.told)


def advise(
    table: str, declared: Sequence[Declared], *, rows: int, waivers: Sequence[Waiver] = ()
) -> TableAdvice:
    """Judge the indexes of one table, of *rows* rows, together."""
    blurring = [each for each in declared if not each.exact and not each.in_parts]
    parted = [each for each in declared if each.in_parts]
    parts = _parts(blurring, rows, _told_of(parted))
    indexes = []
    for each in declared:
        if each.exact:
            found = _of_exact(each)
        elif each.in_parts:
            found = _of_parts(each)
        else:
            part = parts.get(id(each))
            others = sum(parts.values()) - (part or 0.0)
            # Of several, each has its part: rounded up, they would tell too much together.
            most = None if part is None or len(parts) == 1 else floor(part / each.per_row)
            found = _of_blurring(each, others, most, kept=part is not None)
        indexes.append(_waived(found, table, waivers))
    told = _told_of([*blurring, *parted])
    everything = _told_of(declared)
    findings = _together(table, [*blurring, *parted], rows, told)
    return TableAdvice(
        table=table,
        rows=rows,
        indexes=tuple(indexes),
        told=told,
        told_by_all=everything,
        findings=tuple(_accepted(finding, {table}, waivers) for finding in findings),
    )


def _told_of(indexes: Sequence[Declared]) -> float:
    """What indexes tell of a row together. Those of one column tell no more than its value."""
    columns: dict[str, list[Declared]] = {}
    for each in indexes:
        columns.setdefault(each.column, []).append(each)
    return sum(
        min(sum(each.told for each in of), max(each.values.domain_bits for each in of))
        for of in columns.values()
    )


def _parts(blurring: Sequence[Declared], rows: int, told: float) -> dict[int, float]:
    """Return what each of the indexes that can stay may tell, by its identity, where others tell *told*."""
    # At least two rows alike: one bit less than it takes to number the rows.
    budget = log2(max(rows, 2)) - 1 - told
    kept = [each for each in blurring if not _is_few(each) and _cap(each) >= SHORTEST]
    while kept:
        parts = shared_out(budget, [_cap(each) for each in kept])
        least = min(range(len(kept)), key=lambda at: parts[at] / kept[at].per_row)
        if len(kept) == 1 or parts[least] / kept[least].per_row >= SHORTEST:
            return {id(each): part for each, part in zip(kept, parts, strict=True)}
        del kept[least]  # too little for an index: what it may tell goes to the others
    return {}


def _is_few(declared: Declared) -> bool:
    return (_FEW if declared.possible is None else declared.possible) < _FEW or (
        not declared.unique and declared.values.values < _FEW
    )


def _cap(declared: Declared) -> float:
    most = by_values(declared.entries.values).most
    return max(0.0, min(declared.values.domain_bits, max(most, 0) * declared.entries.per_row))


def _of_exact(declared: Declared) -> Advice:
    what = "unique" if declared.unique else "exact"
    findings = [
        Finding(
            code="equality",
            says=f"It is {what}: whoever has the table sees which rows hold equal values. That is what it is for.",
            refuses=False,
        ),
        *_of_values(declared),
    ]
    twice = declared.entries.read - declared.entries.distinct
    if declared.unique and declared.read_from == "values" and twice > 0:
        says = f"It is unique, and {twice:,} rows hold a value that another row holds: lacre protect refuses them, and names them."
        findings.insert(0, Finding(code="duplicates", says=says, refuses=True))
    return Advice(
        declared=declared, lengths=None, bits=None, in_vain=0.0, in_vain_then=0.0,
        findings=_named(declared, findings),
    )  # fmt: skip


def _of_parts(declared: Declared) -> Advice:
    # Its length hides little: what is stored with it are the parts of one value, in one row.
    return Advice(
        declared=declared, lengths=None, bits=None, in_vain=0.0, in_vain_then=0.0,
        findings=_named(declared, _of_values(declared)),
    )  # fmt: skip


def _of_blurring(declared: Declared, others: float, most: int | None, *, kept: bool) -> Advice:
    entries, findings = declared.entries, _of_values(declared)
    rows = entries.rows  # those that hold a value
    in_vain = false_positives(entries, declared.bits)
    if rows < FEWEST_ROWS:
        findings.insert(0, Finding(
            code="few-rows", refuses=True,
            says=(f"Only {rows} rows hold a value: no length hides one among so few." if rows else "No row holds a value: there is nothing to count.")
            + " Plan again when there is data, or on a copy that has it.",
        ))  # fmt: skip
        return Advice(
            declared=declared, lengths=None, bits=None, in_vain=in_vain, in_vain_then=in_vain,
            findings=_named(declared, findings),
        )  # fmt: skip
    ours = by_rows(rows, told=others, domain=declared.values.domain_bits)
    theirs = by_values(entries.values)
    lengths = ours & theirs
    if most is not None:
        lengths = lengths & Lengths(least=1, most=most)
    if not lengths:  # what hides has the last word over what is fast
        lengths = Lengths(
            least=min(ours.least, theirs.least, max(lengths.most, 1)), most=lengths.most
        )
    bits: int | None = lengths.most if kept and lengths.most >= SHORTEST else 0
    if _is_few(declared):
        bits = 0  # no length is what is wrong
    elif declared.bits > lengths.most:
        findings.insert(0, Finding(code="too-long", refuses=True, says=_too_long(declared)))
    elif declared.bits < lengths.least:
        findings.insert(0, Finding(
            code="too-short", refuses=True,
            says=f"Too short: a look-up reads and decrypts about {_count(in_vain)} rows that hold other values.",
        ))  # fmt: skip
    else:
        bits = None
    return Advice(
        declared=declared,
        lengths=lengths,
        bits=bits,
        in_vain=in_vain,
        in_vain_then=false_positives(entries, bits) if bits else in_vain,
        findings=_named(declared, findings),
    )


def _too_long(declared: Declared) -> str:
    if declared.alone >= _ALONE:
        return "Too long to hide anything: nearly every value has a token of its own, so whoever has the table sees which rows hold equal values, and how often each occurs, as of a unique index. The re-check that it costs buys nothing."
    return f"Too long: about {declared.alone:.0%} of the values share their token with no other, so whoever has the table sees which rows hold equal values among them."


def _of_values(declared: Declared) -> list[Finding]:
    """What follows from the values, whatever the length."""
    findings = []
    values, rows = declared.values.values, declared.values.rows
    known = declared.possible
    if _is_few(declared) and (known is not None or rows >= FEWEST_ROWS):
        count = round(values) if known is None else known
        findings.append(Finding(code="few-values", refuses=True, says=_few(count)))
    elif not declared.unique and rows >= FEWEST_ROWS and declared.values.share >= _COMMON:
        share = f"{declared.values.share:.0%}"
        findings.append(Finding(
            code="common-value", refuses=False,
            says=f"{share} of the rows hold one value. Whoever knows which value is that common knows these rows: no length hides how often a value occurs.",
        ))  # fmt: skip
    base = declared.normaliser.partition(":")[0]
    if declared.in_parts:
        if normaliser(declared.normaliser).sensitive is not None:
            findings.append(Finding(
                code="parts-of-an-id", refuses=True,
                says="Parts of a number like this give the number away. Index it as a whole or not at all.",
            ))  # fmt: skip
        findings.append(Finding(
            code="parts", refuses=False,
            says="It reveals the most of all indexes: which rows share which three letters. Whoever has the table and a public list of such words recovers many of them."
            if declared.kind == "contains"
            else "Whoever has the table sees which rows begin alike, in each of the lengths. The longer a beginning, the fewer share it: the longest is nearly the value.",
        ))  # fmt: skip
    if base in _ENUMERABLE:
        count, what = _ENUMERABLE[base]
        findings.append(Finding(
            code="enumerable", refuses=False,
            says=f"There are {count:,} {what}. Whoever holds the index root and has the table can try them all; whoever may search can try some, which is recorded.",
        ))  # fmt: skip
    return findings


def _few(values: int) -> str:
    return f"Only {values} different values: their tokens are told apart by how often they occur, whatever the length. Search such a column together with another, in a compound index, or not at all."


def _together(table: str, blurring: Sequence[Declared], rows: int, told: float) -> list[Finding]:
    if len(blurring) < 2 or rows < FEWEST_ROWS or coincidences(rows, told) >= 2:
        return []
    names = ", ".join(str(each) for each in blurring)
    return [Finding(
        code="together", refuses=True,
        says=f"Together the indexes {names} tell {told:.1f} bits of a row of {table}, and {log2(max(rows, 1)):.1f} are enough to tell every row from the others: whoever has the table combines them.",
    )]  # fmt: skip


def _named(declared: Declared, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(replace(finding, index=str(declared)) for finding in findings)


def _waived(advice: Advice, table: str, waivers: Sequence[Waiver]) -> Advice:
    declared = advice.declared
    of = {table, f"{table}.{declared.column}", f"{table}.{declared}"}
    found = tuple(_accepted(finding, of, waivers) for finding in advice.findings)
    return replace(advice, findings=found)


def _accepted(finding: Finding, of: set[str], waivers: Sequence[Waiver]) -> Finding:
    for waiver in waivers:
        if finding.refuses and waiver.finding == finding.code and waiver.of in of:
            return replace(finding, waived=waiver.reason)
    return finding


def _count(number: float) -> str:
    return f"{floor(number):,}" if number >= 10 else f"{number:.1f}"
