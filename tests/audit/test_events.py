"""What evidence says of a row, and what it keeps to itself."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from lacre.audit.entries import CATALOGUE, COMMON, Entry, written
from lacre.audit.event import new_id, surrogates
from lacre.context import Origin
from lacre.errors import ConfigurationError, Tampered
from lacre.fields.rows import row_text
from tests.audit.looks import STAMP, example, searched

ID = uuid.UUID("12345678-1234-4123-8123-123456789abc")


@pytest.mark.parametrize("row", [42, 0, -7, 52998224725, ID, "42", "999999", ID.hex, str(ID)])
def test_a_surrogate_row_id_is_named(row: object) -> None:
    """Integers, UUIDs and short numbers: they identify a row to an operator, and nobody else."""
    assert surrogates([row_text(row)]) == [row_text(row)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row",
    [
        "52998224725",  # a CPF as a text key
        "529.982.247-25",
        "4111111111111111",
        "19791231",
        "ana@example.org",
        "Ana",
        "1234567",
        ("ana@example.org", 1),
        (1, 2),
        "\u0661\u0662",
        "42\n",
    ],
)
def test_a_text_row_id_that_may_name_a_person_is_not(row: object) -> None:
    """A document, card or telephone number used as a text key does not reach the log."""
    assert surrogates([row_text(row)]) == []  # type: ignore[arg-type]


def test_the_catalogue_names_every_member() -> None:
    """What an event writes is what its class says it writes: the catalogue is closed."""
    for kind in CATALOGUE.values():
        event = example(kind)

        assert event.details().keys() == kind.members, kind
        assert not kind.members & COMMON, kind


def test_an_entry_is_read_as_it_was_written() -> None:
    """Every kind of event survives, and says whose it is."""
    for kind in CATALOGUE.values():
        event = example(kind)
        entry = Entry.read(written(event, STAMP, writer="ab" * 16, number=1))

        assert (entry.action, entry.id, entry.members["app"]) == (kind.action, event.id, "shop")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("purpose"),
        lambda found: found.update(note="free text"),
        lambda found: found.update(action="gossip"),
        lambda found: found.update(action=[]),
    ],
)
def test_what_the_catalogue_does_not_have_is_no_entry(
    change: Callable[[dict[str, Any]], object],
) -> None:
    """A member less, a member more, an unknown action: refused."""
    found = json.loads(written(searched(), STAMP))
    change(found)
    with pytest.raises(Tampered):
        Entry.read(json.dumps(found).encode())


def test_ids_grow_with_time_and_are_uuids_of_version_7() -> None:
    """RFC 9562: 48 bits of milliseconds, version, variant; the rest drawn."""
    made = [new_id() for _ in range(100)]

    assert len(set(made)) == 100
    assert {uuid.UUID(each).version for each in made} == {7}
    assert {uuid.UUID(each).variant for each in made} == {uuid.RFC_4122}
    assert [each[:12] for each in made] == sorted(each[:12] for each in made)


@pytest.mark.parametrize(
    "said",
    [
        {"correlation": "a b"},
        {"correlation": "x\n"},
        {"reason": "because I wanted to"},
        {"ip": "localhost"},
    ],
)
def test_an_origin_takes_no_free_text(said: dict[str, str]) -> None:
    """A correlation id, a reason and an address have a shape."""
    with pytest.raises(ConfigurationError):
        Origin(**said)


def test_a_user_agent_is_cut_and_holds_no_control_character() -> None:
    """It is the caller's own text: it stays, and breaks no line."""
    found = Origin(agent="curl/8\r\nX: y" + "a" * 500)

    assert len(found.agent) == 256
    assert found.agent.isprintable()
