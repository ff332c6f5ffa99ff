# SPDX-License-Identifier: Apache-2.0
"""What the planner refuses, what it recommends, and that its recommendation is accepted."""

import enum
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lacre.fields.advice import Declared, TableAdvice, Waiver, advise, possible_values
from lacre.fields.planning import Distribution


def declared(
    values: int, rows: int = 1_000_000, *, bits: int = 32, column: str = "name", **more: object
) -> Declared:
    """An index on *values* values that occur equally often."""
    each, over = divmod(rows, values)
    found = Distribution.of([each + 1] * over + [each] * (values - over))
    given: dict[str, object] = {
        "name": "name",
        "kind": "exact",
        "normaliser": "name",
        "unique": False,
        "entries": found,
        "values": found,
    }
    return Declared(column=column, bits=bits, **(given | more))  # type: ignore[arg-type]


def codes(advice: TableAdvice, *, failing: bool = True) -> set[str]:
    """The findings of a table and its indexes, by code."""
    findings = [*advice.findings, *(f for each in advice.indexes for f in each.findings)]
    return {finding.code for finding in findings if finding.fails or not failing}


def judged(*indexes: Declared, rows: int = 1_000_000, waivers: tuple[Waiver, ...] = ()) -> TableAdvice:  # fmt: skip
    return advise("people", indexes, rows=rows, waivers=waivers)


@pytest.mark.parametrize(
    ("bits", "found", "verdict"),
    [
        (32, {"too-long"}, "SHOWS EQUAL VALUES"),
        (15, {"too-long"}, "TOO LONG"),
        (8, {"too-short"}, "TOO SHORT"),
        (14, set(), "ok"),
        (96, set(), "ok"),
    ],
)
def test_a_length_is_judged(bits: int, found: set[str], verdict: str) -> None:
    """Names of a million people: 32 bits hide nothing, 8 cost too much, 14 do, 96 say what they are."""
    advice = judged(declared(60_000, bits=bits))

    assert codes(advice) == found
    assert advice.indexes[0].verdict == verdict


def test_no_length_is_what_is_wrong_with_few_values_and_nothing_with_few_rows() -> None:
    """A verdict about a length is for an index that another length would make safe."""
    assert judged(declared(3, bits=32)).indexes[0].verdict == "NOT SAFE"
    assert judged(declared(3, rows=10, bits=32), rows=10).indexes[0].verdict == "TOO FEW ROWS"


def test_both_rules_bound_the_range() -> None:
    """5,000 cities in a million rows: from 10 bits by the rows, to 11 by the values."""
    lengths = judged(declared(5_000)).indexes[0].lengths

    assert lengths is not None
    assert (lengths.least, lengths.most) == (10, 11)


@pytest.mark.parametrize("bits", [8, 32, 96])
def test_few_values_are_refused_at_any_length(bits: int) -> None:
    """Fifteen values are told apart by how often they occur, exact or not."""
    assert "few-values" in codes(judged(declared(15, bits=bits)))
    assert "few-values" not in codes(judged(declared(300, bits=bits)))


def test_a_boolean_is_refused_before_there_is_data() -> None:
    """What a type says needs no rows."""
    nothing = Distribution.of([])
    index = replace(declared(2), possible=possible_values(bool), entries=nothing, values=nothing)

    assert "few-values" in codes(judged(index, rows=0))


def test_the_values_of_a_type() -> None:
    """A boolean has two, an enumeration its members, text no end."""

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2
        GREEN = 3

    assert [possible_values(kind) for kind in (bool, Colour, str, int)] == [2, 3, None, None]


def test_fewer_than_sixteen_rows_are_not_planned() -> None:
    """No length hides a row among fifteen; a unique index is not chosen by its length."""
    assert codes(judged(declared(15, 15), rows=15)) == {"few-rows"}
    assert codes(judged(declared(15, 15, bits=96, unique=True), rows=15)) == set()
    assert "few-rows" not in codes(judged(declared(16, 16), rows=16))


def test_indexes_of_a_table_are_counted_together() -> None:
    """Two that are safe alone single out every row together, and are refused."""
    first, second = (declared(60_000, bits=14, column=name) for name in ("name", "street"))

    assert codes(judged(first)) == codes(judged(second)) == set()
    assert "together" in codes(judged(first, second))


def test_values_of_a_unique_index_that_occur_twice_are_refused() -> None:
    """What `protect` would refuse is said before; of tokens it cannot be, the database holds them unique."""
    index = declared(999_999, bits=96, unique=True)

    assert codes(judged(index)) == {"duplicates"}
    assert codes(judged(replace(index, read_from="tokens"))) == set()


def test_rows_without_a_value_hide_nobody() -> None:
    """A million rows of which twenty hold a value are planned as twenty."""
    advice = judged(declared(20, 20, bits=8))

    assert codes(advice) == {"too-long"}


def test_exact_and_unique_indexes_say_so() -> None:
    """Both pass, and both say that equality is visible."""
    for unique in (True, False):
        advice = judged(declared(1_000_000, bits=96, unique=unique))

        assert not advice.fails
        assert "equality" in codes(advice, failing=False)


@pytest.mark.parametrize("kind", ["prefix", "contains"])
@pytest.mark.parametrize("normaliser", ["cpf", "aadhaar", "card_pan"])
def test_parts_of_an_id_are_refused(kind: str, normaliser: str) -> None:
    """No index of beginnings or pieces of a government id or card number."""
    assert "parts-of-an-id" in codes(judged(declared(10**6, kind=kind, normaliser=normaliser)))
    assert "parts-of-an-id" not in codes(judged(declared(10**6, kind=kind)))


def test_a_compound_index_shows_equality_of_the_whole() -> None:
    """Its normaliser is a list; of few combinations it is refused like any other, else it says what it shows."""
    of = {"kind": "compound", "normaliser": '["name/1","exact/1"]', "bits": 96}

    assert codes(judged(declared(500_000, **of)), failing=False) == {"equality"}  # type: ignore[arg-type]
    assert codes(judged(declared(10, **of))) == {"few-values"}  # type: ignore[arg-type]


def test_an_id_says_how_many_there_are() -> None:
    """Whoever holds the root can try all CPFs, and the report says how many that are."""
    advice = judged(declared(1_000_000, bits=96, unique=True, normaliser="cpf"))
    [finding] = [f for f in advice.indexes[0].findings if f.code == "enumerable"]

    assert "1,000,000,000 CPFs" in finding.says


def test_a_common_value_is_noted() -> None:
    """A tenth of the rows with one value is said, whatever the length."""
    found = Distribution.of([100_000] + [9] * 100_000)
    index = replace(declared(2), entries=found, values=found, bits=96)

    assert "common-value" in codes(judged(index), failing=False)
    assert not judged(index).fails


@pytest.mark.parametrize("of", ["people", "people.name", "people.name:name"])
def test_a_waiver_accepts_with_its_reason(of: str) -> None:
    """A finding that was accepted does not fail, and keeps the reason; others go on failing."""
    waiver = Waiver(of=of, finding="too-long", reason="an old index, gone in May")
    advice = judged(declared(60_000), waivers=(waiver,))
    [finding] = [f for f in advice.indexes[0].findings if f.refuses]

    assert not advice.fails
    assert finding.waived == waiver.reason
    assert judged(declared(15), waivers=(waiver,)).fails
    assert judged(declared(60_000, column="street"), waivers=(replace(waiver, of="people.nam"),)).fails  # fmt: skip


@given(
    rows=st.integers(16, 10**9),
    parts=st.lists(st.floats(0.00001, 1), min_size=1, max_size=5),
)
def test_what_is_recommended_is_accepted(rows: int, parts: list[float]) -> None:
    """Declaring what was recommended, and giving up what was, leaves nothing to refuse."""
    indexes = []
    for number, part in enumerate(parts):
        values = max(1, round(rows * part))
        found = Distribution(rows=rows, read=rows, distinct=values, largest=1, squares=rows)
        indexes.append(replace(declared(1, 1), column=f"c{number}", entries=found, values=found))
    first = judged(*indexes, rows=rows)
    kept = [
        replace(each.declared, bits=each.bits or each.declared.bits)
        for each in first.indexes
        if each.bits != 0
    ]
    again = judged(*kept, rows=rows)

    assert codes(again) == set()
