# SPDX-License-Identifier: Apache-2.0
"""Subject keys: each subject's own, made once, refused to every other, gone with a tombstone."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from lacre._core import field
from lacre.context import acting_as
from lacre.errors import (
    EvidenceUnavailable,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceUnreachable,
    LacreError,
    NoPrincipal,
    Tampered,
)
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.resolver import Resolver, ScopeHandle
from tests.components.key_stores import KeyStorePlace
from tests.keys.parts import PROVISIONED, Parts, planted, scope, whose


@pytest.fixture
def keys(place: KeyStorePlace) -> Iterator[Parts]:
    """Two tenants, the first with two classes; nobody is a subject yet."""
    made = Parts.at(place)
    made.create()
    made.create(class_="banking")
    made.create(tenant="t2")
    made.service.unwrapped.clear()
    with acting_as("svc", purpose="test", across_yield=True):
        yield made
    made.close()


def shred(keys: Parts, subject: str) -> None:
    """What shredding does to the key store, without its ceremony."""
    digest = whose(subject).digest
    for row in [each for each in keys.store.contents().keys if each.digest == digest]:
        keys.store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="later"))])
    keys.sql(
        "UPDATE lacre_subject SET pseudonym = NULL, shredded = 'later' WHERE digest = ?", digest
    )


def of(keys: Parts, subject: str, **where: Any) -> KeyRow:
    """The subject's row."""
    handle = whose(subject, **where)
    assert handle.digest is not None
    return keys.store.subjects(handle.scope, [handle.digest])[handle.digest].versions[0]


def statements(keys: Parts) -> list[str]:
    counted: list[str] = []
    engine = keys.store._database.engine
    sa.event.listen(engine, "before_cursor_execute", lambda *given: counted.append(given[2]))
    return counted


def test_the_first_who_encrypts_makes_the_key(keys: Parts) -> None:
    """A subject nobody heard of has a key at once, its own; another process finds the same."""
    one = keys.resolver().to_encrypt(whose("42"))
    other = keys.resolver()

    assert other.to_encrypt(whose("42")).key_id == one.key_id
    assert other.to_decrypt(whose("42"), one.key_id).material.reveal() == one.material.reveal()
    different = {
        other.to_encrypt(each).key_id
        for each in (whose("43"), whose("42", class_="banking"), whose("42", tenant="t2"))
    }
    assert len(different | {one.key_id}) == 4
    row = of(keys, "42")
    assert (row.state, row.version, row.revision) == (KeyState.ACTIVE, 1, 2)
    assert of(keys, "42", class_="banking").scope.subject == row.scope.subject
    assert of(keys, "42", tenant="t2").scope.subject != row.scope.subject
    assert [e.details()["kind"] for e in keys.sink.of("key")].count("subject") == 4


def test_the_store_holds_no_id(keys: Parts, place: KeyStorePlace) -> None:
    """Neither the id of a subject nor anything of its text is in any column."""
    canary = "CANARY-subject-529.982.247-25"
    keys.resolver().to_encrypt(whose(canary))
    held = repr(keys.store.contents()) + repr(
        [place.sql(f"SELECT * FROM {table}") for table in ("lacre_key", "lacre_subject")]
    )

    assert canary not in held
    assert canary.encode().hex() not in held
    assert "CANARY" not in repr(keys.sink.events)


def test_a_reader_makes_nothing(keys: Parts) -> None:
    """A value of a subject that has no key is refused like a tampered one, and there is no key after it."""
    with pytest.raises(Tampered):
        keys.resolver().to_decrypt(whose("42"), bytes(16))
    keys.resolver().prepare(ScopeHandle(scope("subject")), [bytes(16)])

    assert keys.store.contents().subjects == ()


def every_key(keys: Parts) -> dict[str, KeyRow]:
    """One key of each kind x tenant x class x subject x version that the store has."""
    rows = {
        f"{row.scope.kind} {row.scope.tenant} {row.scope.class_} {row.scope.subject} {row.version}": row
        for row in keys.store.contents().keys
        if row.wrapped is not None
    }
    assert len(rows) == len(keys.store.contents().keys)
    return rows


def test_no_other_key_of_the_store_opens_a_subjects_value(keys: Parts) -> None:
    """Forged with each of them, kind x tenant x class x subject x version: one error, before any unwrap."""
    keys.rotate("data")
    keys.rotate("branch")
    keys.rotate("index")
    for where in ({}, {"class_": "banking"}, {"tenant": "t2"}):
        for subject in ("42", "43"):
            keys.resolver().to_encrypt(whose(subject, **where))
    mine = of(keys, "42")
    others = {name: row for name, row in every_key(keys).items() if row.key_id != mine.key_id}
    assert len(others) == 3 * 3 + 3 + 6 - 1
    assert {row.scope.kind for row in others.values()} == set(KeyKind) - {
        KeyKind.SEAL,
        KeyKind.BUCKET,
    }
    for name, row in others.items():
        context = field.encrypt(
            keys.material(row).reveal(),
            row.key_id,
            b"the place",
            b"x",
            salt=bytes(24),
            padded=False,
        )
        keys.service.unwrapped.clear()
        resolver = keys.resolver()
        with pytest.raises(Tampered) as caught:
            resolver.to_decrypt(whose("42"), field.key_id_of(bytes(context)))

        assert (caught.value.args, keys.service.unwrapped) == (Tampered().args, []), name
    assert keys.resolver().to_decrypt(whose("42"), mine.key_id)


def test_a_subjects_key_opens_no_other_column(keys: Parts) -> None:
    """Named where a key of another kind, class, tenant or of no subject is asked for: one error, nothing unwrapped."""
    resolver = keys.resolver()
    key_id = resolver.to_encrypt(whose("42")).key_id
    asked = [
        *(ScopeHandle(scope(str(kind))) for kind in PROVISIONED),
        whose("43"),
        whose("42", class_="banking"),
        whose("42", tenant="t2"),
        ScopeHandle(scope("subject")),
    ]
    keys.service.unwrapped.clear()
    for each in asked:
        for cold in (resolver, keys.resolver()):
            with pytest.raises(Tampered):
                cold.to_decrypt(each, key_id)

    assert keys.service.unwrapped == []


COLUMNS: list[tuple[str, Any]] = [
    ("app", "other"), ("env", "prod"), ("service", "other"), ("tenant", "t2"), ("class", "banking"), ("kind", "data"), ("subject", "ab" * 16),
    ("digest", None), ("digest", bytes(32)), ("version", 2), ("suite", 2), ("created", "2020-01-01T00:00:00Z"), ("keystore", "00" * 16),
    ("parent", "00" * 16), ("parent", "no hex"), ("parent", "local://pii-fields"), ("wrapped", b""), ("wrapped", bytes(123)),
    ("state", "decrypt_only"), ("state", "disabled"), ("revision", 1), ("changed", "2020-01-01T00:00:00Z"), ("mac", None), ("mac", bytes(32)),
    ("key_id", bytes(16)),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_an_edited_row_is_refused(keys: Parts, column: str, value: Any) -> None:
    """Every column of a subject key's row is authenticated: edited by SQL, it serves nobody."""
    row = keys.store.row(keys.resolver().to_encrypt(whose("42")).key_id)
    if not keys.edit(row, column, value):
        return  # PostgreSQL refused it already

    with pytest.raises(LacreError):
        keys.resolver().to_decrypt(whose("42"), row.key_id)
    refused = keys.resolver().prepare(ScopeHandle(scope("subject")), [row.key_id])
    assert set(refused) == {row.key_id}


def test_a_pseudonym_that_is_pointed_elsewhere_opens_nothing(
    keys: Parts, place: KeyStorePlace
) -> None:
    """One subject's digest at another's pseudonym: refused; the digests of the rows too: they do not open."""
    resolver = keys.resolver()
    theirs = resolver.to_encrypt(whose("victim")).key_id
    resolver.to_encrypt(whose("thief"))
    row, mine = of(keys, "victim"), of(keys, "thief")
    moved = "UPDATE lacre_subject SET pseudonym = ? WHERE digest = ?"
    if "sqlite" not in place.url:
        keys.sql("ALTER TABLE lacre_key DROP CONSTRAINT lacre_key_subject")
    keys.sql(moved, "ff" * 16, row.digest)
    keys.sql(moved, row.scope.subject, mine.digest)

    for _ in range(2):
        keys.service.unwrapped.clear()
        with pytest.raises(Tampered):
            keys.resolver().to_decrypt(whose("thief"), theirs)
        with pytest.raises(Tampered):
            keys.resolver().to_encrypt(whose("thief"))
        keys.sql("UPDATE lacre_key SET digest = ? WHERE key_id = ?", mine.digest, theirs)


def test_a_tombstone_ends_reading_and_writing(keys: Parts) -> None:
    """In every class: values are not read, nothing new is written, by single keys or many at once, warm or cold."""
    warm = keys.resolver()
    held = {
        class_: warm.to_encrypt(whose("42", class_=class_)).key_id for class_ in ("pii", "banking")
    }
    shred(keys, "42")
    keys.clock.advance(301)
    for resolver in (warm, keys.resolver()):
        for class_, key_id in held.items():
            handle = whose("42", class_=class_)
            for use in (
                lambda handle=handle: resolver.to_encrypt(handle),  # noqa: B023
                lambda handle=handle: resolver.to_encrypt_all([handle, whose("43")]),  # noqa: B023
                lambda handle=handle, key_id=key_id: resolver.to_decrypt(handle, key_id),  # noqa: B023
            ):
                with pytest.raises(KeyDestroyed):
                    use()
            named = ScopeHandle(scope("subject", class_=class_))
            assert isinstance(resolver.prepare(named, [key_id])[key_id], KeyDestroyed)

    # Never made in this class: the tombstone counts all the same.
    shred(keys, "43")
    with pytest.raises(KeyDestroyed):
        keys.resolver().to_encrypt(whose("43", class_="banking"))
    assert {row.state for row in keys.store.contents().keys if row.scope.kind is KeyKind.SUBJECT} == {KeyState.DESTROYED}  # fmt: skip


def test_a_process_stops_within_the_age(keys: Parts) -> None:
    """What it holds of a subject that was shredded is used for an age at most, and not a second longer."""
    resolver = keys.resolver(age=300)
    key_id = resolver.to_encrypt(whose("42")).key_id
    shred(keys, "42")
    keys.clock.advance(200)
    assert resolver.to_decrypt(whose("42"), key_id)
    keys.clock.advance(101)

    with pytest.raises(KeyDestroyed):
        resolver.to_decrypt(whose("42"), key_id)


def test_a_disabled_key_is_not_made_anew(keys: Parts) -> None:
    """Whoever stopped it meant it: neither one nor many at once mint around it."""
    resolver = keys.resolver()
    row = keys.store.row(resolver.to_encrypt(whose("42")).key_id)
    keys.step(row, KeyState.DISABLED)

    for use in (lambda: keys.resolver().to_encrypt(whose("42")), lambda: keys.resolver().to_encrypt_all([whose("42")])):  # fmt: skip
        with pytest.raises(KeyDisabled):
            use()
    with pytest.raises(KeyDisabled):
        keys.resolver().to_decrypt(whose("42"), row.key_id)
    assert len([each for each in keys.store.contents().keys if each.digest]) == 1


def test_a_planted_key_is_not_used(keys: Parts) -> None:
    """Pending rows and rows wrapped by nobody who may wrap are passed over or refused."""
    resolver = keys.resolver()
    key = resolver.to_encrypt(whose("42"))
    row = of(keys, "42")
    keys.insert(
        replace(row, key_id=b"p" * 16, version=2, state=KeyState.PENDING, revision=1, mac=None)
    )
    assert keys.resolver().to_encrypt(whose("42")).key_id == key.key_id
    other = replace(row, key_id=b"q" * 16, version=3)
    wrapped = planted(
        other, bytes.fromhex(row.parent), key.material, keys.material(keys.row("data"))
    )
    keys.sql("UPDATE lacre_key SET state = 'decrypt_only' WHERE key_id = ?", row.key_id)
    keys.insert(replace(other, wrapped=wrapped))

    with pytest.raises(LacreError):
        keys.resolver().to_encrypt(whose("42"))


@pytest.mark.parametrize("count", [1, 2500])
def test_many_are_made_in_few_statements(keys: Parts, count: int) -> None:
    """Thousands of new subjects: some statements for each thousand, one call of the key service, one record."""
    resolver = keys.resolver()
    handles = [whose(str(number)) for number in range(count)]
    counted = statements(keys)
    made = resolver.to_encrypt_all(handles)
    again = keys.resolver(subjects=10).to_encrypt_all(handles)

    assert {token: key.key_id for token, key in made.items()} == {t: k.key_id for t, k in again.items()}  # fmt: skip
    assert len({key.key_id for key in made.values()}) == count
    assert keys.service.unwrapped == ["local://pii-fields"] * 2
    assert len([text for text in counted if "lacre_" in text]) < 20 + count / 25


def test_a_page_of_subjects_is_one_query(keys: Parts) -> None:
    """The keys that 500 values name come together; the looks that follow ask nobody."""
    handles = [whose(str(number)) for number in range(500)]
    named = {h.token: k.key_id for h, k in zip(handles, keys.resolver().to_encrypt_all(handles).values(), strict=True)}  # fmt: skip
    resolver = keys.resolver()
    counted = statements(keys)
    assert resolver.prepare(ScopeHandle(scope("subject")), list(named.values())) == {}
    asked = [text for text in counted if "lacre_subject" in text]
    for handle in handles:
        assert resolver.to_decrypt(handle, named[handle.token]).key_id == named[handle.token]

    assert len(asked) == 1
    assert [text for text in counted if "lacre_subject" in text] == asked


def test_a_crowd_pushes_no_branch_key_out(keys: Parts) -> None:
    """More subjects than the cache takes: the key service is asked once, and the data key stays."""
    resolver = keys.resolver(entries=3, subjects=20)
    data = ScopeHandle(scope())
    resolver.to_encrypt(data)
    resolver.to_encrypt_all([whose(str(number)) for number in range(100)])
    for number in range(100):
        resolver.to_encrypt(whose(str(number)))

    assert resolver.cached(data) is not None
    assert keys.service.unwrapped == ["local://pii-fields"]
    assert len(resolver._cache.named) == 20
    assert len(resolver._entries) == 20 + 3  # the data key, and the branch key by both names


def test_a_key_of_another_subject_is_known_as_that(keys: Parts) -> None:
    """Fetched with a page it is held as its own subject's, and nothing that names another finds it."""
    warm = keys.resolver()
    theirs = warm.to_encrypt(whose("43")).key_id
    resolver = keys.resolver()
    resolver.prepare(ScopeHandle(scope("subject")), [theirs])

    assert resolver.cached(whose("43"), theirs) is not None
    assert resolver.cached(whose("42"), theirs) is None
    assert resolver.of_another(whose("42"), theirs)
    assert not resolver.of_another(whose("43"), theirs)
    with pytest.raises(Tampered):
        resolver.to_decrypt(whose("42"), theirs)


def test_threads_that_make_one_subject_make_one_key(keys: Parts) -> None:
    """Eight processes' worth of resolvers, each with its own store: one key, which all of them use."""
    start = threading.Barrier(8)

    def use(number: int) -> set[bytes]:
        mine: Resolver = keys.resolver()
        start.wait()
        with acting_as("svc", purpose="test"):
            if number % 2:
                return {mine.to_encrypt(whose(str(n))).key_id for n in range(5)}
            return {
                k.key_id for k in mine.to_encrypt_all([whose(str(n)) for n in range(5)]).values()
            }

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(8)))

    assert all(each == found[0] for each in found)
    assert len(keys.store.contents().subjects) == 5


def test_no_evidence_no_key(keys: Parts) -> None:
    """Where it cannot be recorded, or nobody acts, none is made."""
    keys.sink.failing = OSError("full")
    with pytest.raises(EvidenceUnavailable):
        keys.resolver().to_encrypt(whose("42"))
    keys.sink.failing = None

    def nobody() -> None:
        with pytest.raises(NoPrincipal):
            keys.resolver().to_encrypt(whose("42"))

    thread = threading.Thread(target=nobody)
    thread.start()
    thread.join()
    assert not [row for row in keys.store.contents().keys if row.digest]


def test_a_tenant_without_a_branch_key_has_no_subjects(keys: Parts) -> None:
    """The error names the tenant and the command; no subject is made."""
    with pytest.raises(KeyNotFound, match="'nobody'") as caught:
        keys.resolver().to_encrypt(whose("42", tenant="nobody"))

    assert "lacre keys create --tenant nobody" in (caught.value.hint or "")
    assert keys.store.contents().subjects == ()


def test_stale_use_reads_and_does_not_write(keys: Parts) -> None:
    """While the key service is away values are read on, after the tombstone was looked for."""
    resolver = keys.resolver(age=300, stale_for=600)
    key_id = resolver.to_encrypt(whose("42")).key_id
    other = resolver.to_encrypt(whose("43")).key_id
    shred(keys, "43")
    keys.clock.advance(301)
    keys.service.everything = KeyServiceUnreachable

    assert resolver.to_decrypt(whose("42"), key_id).key_id == key_id
    with pytest.raises(KeyServiceUnreachable):
        resolver.to_encrypt(whose("42"))
    with pytest.raises(KeyDestroyed):
        resolver.to_decrypt(whose("43"), other)
