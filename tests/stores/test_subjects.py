# SPDX-License-Identifier: Apache-2.0
"""Subjects and their keys in the key store: many at once, each once, and none for a tombstone."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.errors import ConfigurationError, MisuseError
from lacre.keys.hierarchy import KeyState, SubjectRow, subject_digest
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeyStorePlace
from tests.keys.parts import scope
from tests.stores.rows import ROW, SUBJECT, subject_key


@pytest.fixture
def store(place: KeyStorePlace) -> Iterator[SQLKeyStore]:
    """An empty key store."""
    made = place.open()
    made.upgrade()
    yield made
    made.close()


def subjects(count: int) -> list[SubjectRow]:
    """That many, each with a digest and pseudonym of its own."""
    return [
        replace(SUBJECT, digest=number.to_bytes(32), pseudonym=f"{number:032x}")
        for number in range(1, count + 1)
    ]


def statements(store: SQLKeyStore) -> list[str]:
    counted: list[str] = []
    engine = store._database.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *given: counted.append(given[2]))
    return counted


def test_thousands_come_and_go_in_few_statements(store: SQLKeyStore) -> None:
    """1,200 subjects with two classes: what is asked for comes, of one class, in a query for each 500."""
    rows = subjects(1200)
    store.add_subjects(rows)
    store.add_subject_keys([subject_key(row) for row in rows])
    counted = statements(store)
    found = store.subjects(scope(), [row.digest for row in rows] + [bytes(32)])

    assert len([text for text in counted if "lacre_subject" in text]) == 3
    assert len(found) == 1200
    assert all(found[row.digest].versions == (subject_key(row),) for row in rows)
    other = store.subjects(scope(class_="banking"), [rows[0].digest])
    assert other[rows[0].digest].versions == ()


def test_what_is_there_is_passed_over(store: SQLKeyStore) -> None:
    """A second of the same digest or version changes nothing, and does not stop the others."""
    first, second = subjects(2)
    store.add_subjects([first])
    store.add_subjects([replace(first, pseudonym="ff" * 16), second])
    store.add_subject_keys([subject_key(first)])
    store.add_subject_keys([replace(subject_key(first), key_id=bytes(16)), subject_key(second)])

    found = store.subjects(scope(), [first.digest, second.digest])
    assert found[first.digest].subject == first
    assert found[first.digest].versions == (subject_key(first),)
    assert found[second.digest].versions == (subject_key(second),)


def test_a_shredded_subject_takes_no_key(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """What is added for a tombstone, or for another pseudonym, is not there."""
    first, second = subjects(2)
    store.add_subjects([first, second])
    place.sql("UPDATE lacre_subject SET pseudonym = NULL, shredded = 'now' WHERE digest = ?", first.digest)  # fmt: skip
    store.add_subject_keys([subject_key(first), replace(subject_key(second), scope=subject_key(first).scope)])  # fmt: skip

    found = store.subjects(scope(), [first.digest, second.digest])
    assert found[first.digest].subject.shredded == "now"
    assert [each.versions for each in found.values()] == [(), ()]


def test_a_version_takes_the_place_of_the_one_before_and_none_of_a_tombstone(
    store: SQLKeyStore, place: KeyStorePlace
) -> None:
    """In one transaction, and only over the row that was read: a second run, or one after a shredding, changes nothing."""
    first = subject_key(SUBJECT)
    store.add_subjects([SUBJECT])
    store.add_subject_keys([first])
    old = replace(first, state=KeyState.DECRYPT_ONLY, revision=3)
    second = replace(first, key_id=b"\x0f" * 16, version=2)
    store.add_subject_version(second, over=(first, old))
    third = replace(first, key_id=b"\x10" * 16, version=3)
    with pytest.raises(MisuseError, match="another process"):
        store.add_subject_version(third, over=(first, old))

    held = store.subjects(first.scope, [SUBJECT.digest])[SUBJECT.digest].versions
    assert held == (second, old)

    ended = [(row, row.stepped(KeyState.DESTROYED, changed="now")) for row in held]
    assert store.shred_subject(SUBJECT.digest, when="now", replace=ended)
    with pytest.raises(MisuseError, match="another process"):
        store.add_subject_version(third, over=None)
    assert {row.state for row in store.keys_of_subject(first.scope, SUBJECT.pseudonym or "")} == {KeyState.DESTROYED}  # fmt: skip


def test_many_that_make_the_same_ones_make_each_once(
    store: SQLKeyStore, place: KeyStorePlace
) -> None:
    """Six at once, each in another order: no deadlock, and every subject has one pseudonym and one key."""
    rows = subjects(60)
    start = threading.Barrier(6)

    def make(number: int) -> None:
        mine = place.open()
        turned = [
            replace(row, pseudonym=f"{number + 1:02x}{row.pseudonym[2:]}")  # type: ignore[index]
            for row in rows[number * 10 :] + rows[: number * 10]
        ]
        start.wait()
        mine.add_subjects(turned)
        present = mine.subjects(scope(), [row.digest for row in rows])
        mine.add_subject_keys(
            [
                replace(subject_key(held.subject), key_id=bytes([number]) + digest[-15:])
                for digest, held in present.items()
            ]
        )
        mine.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(make, range(6)))

    found = store.subjects(scope(), [row.digest for row in rows])
    assert [len(each.versions) for each in found.values()] == [1] * 60
    assert len({each.subject.pseudonym for each in found.values()}) == 60


def test_they_do_not_drown_a_listing(store: SQLKeyStore) -> None:
    """`rows` leaves subject keys out; they are counted, by tenant, class, state and parent."""
    rows = subjects(5)
    store.change(add=[ROW])
    store.add_subjects(rows)
    store.add_subject_keys([subject_key(row) for row in rows])
    gone = subject_key(rows[0]).stepped(KeyState.DESTROYED, changed="now")
    store.change(replace=[(subject_key(rows[0]), gone)])

    assert store.rows() == [ROW]
    [active, destroyed] = store.subject_keys()
    assert (active.state, active.number, active.parent) == (KeyState.ACTIVE, 4, ROW.parent)
    assert (active.tenant, active.class_, active.oldest) == ("default", "pii", ROW.created)
    assert (destroyed.state, destroyed.number) == (KeyState.DESTROYED, 1)


def test_pages_hold_every_key_once(store: SQLKeyStore) -> None:
    """In pages of two: all versions of all subjects of the tenant and class, and no other's."""
    rows = subjects(5)
    store.add_subjects(rows)
    keys = [subject_key(row) for row in rows]
    second = replace(keys[2], key_id=b"\x09" * 16, version=2, state=KeyState.DECRYPT_ONLY)
    store.change(add=[*keys, second, replace(keys[0], key_id=b"\x0a" * 16, scope=replace(keys[0].scope, tenant="other"))])  # fmt: skip
    found: list[Any] = []
    place = ("", 0)
    while page := store.subject_page(scope(), after=place, limit=2):
        found += page
        place = (page[-1].scope.subject or "", page[-1].version)

    assert found == sorted([*keys, second], key=lambda row: (row.scope.subject, row.version))


def test_the_whole_store_goes_and_comes(store: SQLKeyStore) -> None:
    """Subjects, tombstones, holds and digests are in the contents, and are what a restore writes."""
    rows = subjects(3)
    store.add_subjects(rows)
    store.add_subject_keys([subject_key(row) for row in rows])
    before = store.contents()
    assert set(before.subjects) == set(rows)
    assert {row.digest for row in before.keys} == {row.digest for row in rows}
    whole = replace(
        before,
        subjects=(
            *before.subjects,
            SubjectRow(digest=b"t" * 32, pseudonym=None, created="c", shredded="s", hold=None),
            SubjectRow(digest=b"h" * 32, pseudonym="aa" * 16, created="c", hold="case 7"),
        ),
    )
    store.restore(whole, allow=lambda _: None)

    after = store.contents()
    assert set(after.subjects) == set(whole.subjects)
    assert set(after.keys) == set(whole.keys)


def test_what_is_no_subject_is_refused(store: SQLKeyStore, place: KeyStorePlace) -> None:
    """A row that no release writes stops whoever reads it; the constraint stops half a tombstone."""
    store.add_subjects(subjects(1))
    place.sql("UPDATE lacre_subject SET created = ?", "x" * 32)
    with pytest.raises(Exception, match=r"(?i)constraint"):
        place.sql("UPDATE lacre_subject SET pseudonym = NULL")
    assert store.contents().subjects[0].created == "x" * 32
    if "sqlite" in place.url:
        place.sql("UPDATE lacre_subject SET created = ?", "x" * 2000)
        with pytest.raises(ConfigurationError, match="no release writes"):
            store.subjects(scope(), [subjects(1)[0].digest])


def test_a_digest_tells_tenants_apart_and_classes_not() -> None:
    """One subject has one digest in every class of a tenant, and another in every other application."""
    mine = subject_digest(scope(), "42")

    assert subject_digest(scope("subject", class_="banking"), "42") == mine
    others = [
        subject_digest(scope(), "43"),
        subject_digest(scope(tenant="other"), "42"),
        *(subject_digest(scope(**{name: "x"}), "42") for name in ("app", "env", "service")),
    ]
    assert len({mine, *others}) == 6
