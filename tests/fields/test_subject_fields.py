# SPDX-License-Identifier: Apache-2.0
"""A field whose values are of subjects: each under its subject's own key, whom every call names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from lacre import BlindIndex, Lacre
from lacre.errors import (
    AccessDenied,
    ConfigurationError,
    KeyDestroyed,
    MisuseError,
    PlaintextFound,
    Tampered,
)
from lacre.fields.field import Field
from lacre.keys.hierarchy import KeyKind, KeyState

ANA, RUI = UUID(int=1), UUID(int=2)


@pytest.fixture
def acting(lacre: Lacre) -> Iterator[None]:
    """A service with every right."""
    with lacre.acting_as("svc", roles={"app"}, purpose="test", across_yield=True):
        yield


def email(lacre: Lacre, **options: Any) -> Field:
    options.setdefault("subject", True)
    return lacre.field("pii", table="users", column="email", **options)


def shred(lacre: Lacre, digest: bytes) -> None:
    """What shredding does to the key store, without its ceremony."""
    store: Any = lacre.store
    for row in [each for each in store.contents().keys if each.digest == digest]:
        store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="later"))])
    with store._database.writer.begin() as connection:
        connection.exec_driver_sql("UPDATE lacre_subject SET pseudonym = NULL, shredded = 'later' WHERE digest = ?", (digest,))  # fmt: skip


def digest_of(lacre: Lacre, subject: str) -> bytes:
    from lacre.keys.hierarchy import subject_digest

    return subject_digest(lacre.scope("default", "pii"), subject)


@pytest.mark.usefixtures("acting")
def test_a_value_comes_back_to_its_subject_alone(lacre: Lacre) -> None:
    """In each form, whatever type the id is; another subject's name, or a subject's of another text, is Tampered."""
    box = email(lacre)
    for subject in (ANA, 42, "ana", (7, "a")):
        for seal in (box.encrypt, box.encrypt_text, box.encrypt_json):
            sealed = seal("ana@example.org", row="1", subject=subject)
            assert box.decrypt(sealed, row="1", subject=subject) == "ana@example.org"
            with pytest.raises(Tampered):
                box.decrypt(sealed, row="1", subject=RUI)
    sealed = box.encrypt("x", row="1", subject="42")

    assert box.decrypt(sealed, row="1", subject=42) == "x"  # one text, one subject


@pytest.mark.usefixtures("acting")
def test_whose_it_is_has_to_be_said(lacre: Lacre) -> None:
    """Left out, or named where the field has none: an error that says so, and nothing is encrypted or opened."""
    box, plain = email(lacre), email(lacre, subject=False)
    sealed, shared = box.encrypt("x", row="1", subject=1), plain.encrypt("x", row="1")
    for use in (
        lambda: box.encrypt("x", row="1"),
        lambda: box.encrypt_many([("1", "x")]),
        lambda: box.prepare("x", row="1"),
        lambda: box.prepare_many([("1", "x")]),
        lambda: box.decrypt(sealed, row="1"),
        lambda: box.decrypt_many([("1", sealed)]),
        lambda: box.writing().stored("1", "x"),
    ):
        with pytest.raises(MisuseError, match="none was named"):
            use()
    for use in (
        lambda: plain.encrypt("x", row="1", subject=1),
        lambda: plain.prepare("x", row="1", subject=1),
        lambda: plain.decrypt(shared, row="1", subject=1),
        lambda: plain.writing().stored("1", "x", 1),
    ):
        with pytest.raises(MisuseError, match="one was named"):
            use()
    with pytest.raises(MisuseError, match="not one subject"):
        box.encrypt_many([("1", "x"), ("2", "y")], subjects=[1])

    assert box.encrypt(None, row="1") is None
    assert box.decrypt(None, row="1") is None


@pytest.mark.usefixtures("acting")
def test_many_at_once(lacre: Lacre) -> None:
    """Values, tokens and evidence of many subjects; their keys are made together."""
    box = email(lacre, index=BlindIndex("email"))
    items = [(str(number), f"{number}@example.org") for number in range(50)]
    whose = list(range(50))
    stored = box.prepare_many(items, subjects=whose)
    sealed = box.encrypt_many(items, subjects=whose)

    assert len({bytes(made.value[3:19]) for made in stored}) == 50
    assert [bytes(each[3:19]) for each in sealed if each] == [bytes(each.value[3:19]) for each in stored]  # fmt: skip
    back = box.decrypt_many([(row, made.value) for (row, _), made in zip(items, stored, strict=True)], subjects=whose)  # fmt: skip
    assert back == [value for _, value in items]
    assert stored[7].tokens[0] in box.search_tokens("7@example.org")
    assert box.recheck([("7", stored[7].value)], box.index(), "7@example.org", subjects=[7]) == [True]  # fmt: skip


@pytest.mark.usefixtures("acting")
def test_values_from_before_are_read_only_where_that_is_declared(lacre: Lacre) -> None:
    """Under the class's key: refused by a field of subjects, read by one that is moving, or by the job that moves them."""
    before, box, moving = email(lacre, subject=False), email(lacre), email(lacre, moving=True)
    old = before.encrypt("old", row="1")
    new = box.encrypt("new", row="1", subject=ANA)
    for sealed, opened in ((old, "old"), (new, "new")):
        assert box.reopened_any(sealed, row="1", subject=ANA) == opened
        assert moving.decrypt(sealed, row="1", subject=ANA) == opened
        with pytest.raises(Tampered):
            moving.decrypt(sealed, row="2", subject=ANA)
    with pytest.raises(Tampered):
        box.decrypt(old, row="1", subject=ANA)
    with pytest.raises(Tampered):
        moving.decrypt(new, row="1", subject=RUI)
    with pytest.raises(Tampered):
        before.decrypt(new, row="1")
    assert bytes((moving.encrypt("x", row="1", subject=ANA) or b"")[3:19]) == bytes(
        (new or b"")[3:19]
    )

    with pytest.raises(ConfigurationError, match="has none"):
        email(lacre, subject=False, moving=True)
    with pytest.raises(PlaintextFound):
        box.reopened_any(b"old", row="1", subject=ANA)


def test_opening_any_takes_both_rights(lacre: Lacre) -> None:
    """Whoever may not both decrypt and encrypt moves nothing."""
    with lacre.acting_as("svc", roles={"nobody"}, purpose="test"), pytest.raises(AccessDenied):
        email(lacre).reopened_any(b"x", row="1", subject=ANA)


@pytest.mark.usefixtures("acting")
def test_a_shredded_subject_is_neither_read_nor_written(lacre: Lacre) -> None:
    """Also not by way of what is under the class's key, and not after a restart."""
    box, moving = email(lacre), email(lacre, moving=True)
    sealed = box.encrypt("x", row="1", subject="ana")
    old = email(lacre, subject=False).encrypt("x", row="1")
    shred(lacre, digest_of(lacre, "ana"))
    lacre.resolver.forget()
    for use in (
        lambda: box.decrypt(sealed, row="1", subject="ana"),
        lambda: moving.decrypt(old, row="1", subject="ana"),
        lambda: box.reopened_any(old, row="1", subject="ana"),
        lambda: box.encrypt("y", row="1", subject="ana"),
        lambda: box.prepare_many([("1", "y"), ("2", "z")], subjects=["rui", "ana"]),
    ):
        with pytest.raises(KeyDestroyed):
            use()

    assert box.encrypt("y", row="1", subject="rui")


@pytest.mark.usefixtures("acting")
def test_nothing_tells_the_subject(lacre: Lacre) -> None:
    """Neither an error, nor a repr, nor the usage, nor what is in the key store holds the id."""
    canary = "CANARY-529.982.247-25"
    box = email(lacre)
    sealed = box.encrypt("x", row="1", subject=canary)
    told = [repr(box), repr(box.writing()), repr(lacre.usage()), repr(lacre.store.contents())]  # type: ignore[attr-defined]
    for use in (
        lambda: box.decrypt(sealed, row="2", subject=canary),
        lambda: email(lacre, subject=False).decrypt(sealed, row="1", subject=canary),
    ):
        with pytest.raises((Tampered, MisuseError)) as caught:
            use()
        told.append(repr(caught.value) + str(caught.value.hint))
    shred(lacre, digest_of(lacre, canary))
    lacre.resolver.forget()
    with pytest.raises(KeyDestroyed) as gone:
        box.decrypt(sealed, row="1", subject=canary)

    assert "CANARY" not in "".join([*told, repr(gone.value), str(gone.value.hint)])
    [usage] = lacre.usage().subjects
    assert (usage.class_, usage.made) == ("pii", 1)
    assert all(KeyKind.SUBJECT not in repr(each) for each in lacre.usage().keys)


def test_a_denied_look_names_whose_value_was_asked_for(lacre: Lacre, home: Path) -> None:
    """The subject, where its key is at hand, else the key that the value names; of a value moved from another subject only that."""
    box = email(lacre)
    with lacre.acting_as("svc", roles={"app"}, purpose="test"):
        sealed = box.encrypt("ana@example.org", row="1", subject=ANA)
        box.decrypt(sealed, row="1", subject=ANA)
    with lacre.acting_as("user:eve", roles={"nobody"}, purpose="test"):
        for subject in (ANA, RUI):
            with pytest.raises(AccessDenied):
                box.decrypt(sealed, row="1", subject=subject)
        lacre.resolver.forget()
        with pytest.raises(AccessDenied):
            box.decrypt(sealed, row="1", subject=ANA)
        lacre.recorder.flush()
        with pytest.raises(AccessDenied):
            box.decrypt(b"no value at all", row="1", subject=ANA)
    lacre.recorder.flush()
    lines = map(json.loads, (home / "lacre" / "audit.jsonl").read_text("utf-8").splitlines())
    seen, *denied = [each for each in lines if each["action"] == "look"]
    told = [(each["key"], each["count"], each["rows"], each["subjects"]) for each in denied]
    key = bytes(sealed)[3:19].hex()

    assert {each["outcome"] for each in denied} == {"denied"}
    assert told == [(key, 3, [], seen["subjects"]), ("", 1, [], [])]
