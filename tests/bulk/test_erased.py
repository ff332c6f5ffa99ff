# SPDX-License-Identifier: Apache-2.0
"""Values whose subject was shredded, among those of others."""

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

from lacre import Lacre
from lacre.bulk import BulkReader
from lacre.errors import KeyDestroyed, Tampered
from lacre.fields.held import HeldField
from lacre.keys.hierarchy import KeyState
from tests.bulk.conftest import Recorded
from tests.fields.test_subject_fields import digest_of, email, shred
from tests.sqlalchemy.conftest import on_sqlite
from tests.sqlalchemy.test_subjects import ANA, RUI, User
from tests.sqlalchemy.test_subjects import shred as shred_of_row


def test_an_erased_value_is_null_and_the_others_are_read(lacre: Lacre) -> None:
    """It is counted; another subject's name in its place is Tampered as ever."""
    field = HeldField(lacre.guard, email(lacre).scheme)
    with lacre.acting_as("svc", roles={"app"}, purpose="test"):
        items = [
            (row, field.encrypt(f"{row}@example.org", row=row, subject=subject))
            for row, subject in (("1", "ana"), ("2", "rui"))
        ]
        shred(lacre, digest_of(lacre, "ana"))
        lacre.resolver.forget()
        reading = field.reading()
        found = reading.opened([*items, ("3", None)], subjects=["ana", "rui", "rui"])
        with pytest.raises(Tampered):
            field.reading().opened(items[1:], subjects=["eva"])

    assert found == [None, "2@example.org", None]
    assert (reading.erased, len(reading.keys)) == (1, 1)


@on_sqlite
@pytest.mark.usefixtures("analyst")
def test_a_reading_goes_on_past_who_was_erased(
    lacre: Lacre, engine: Engine, reader: BulkReader, recorded: Recorded
) -> None:
    """Their values are NULL, what is about others or about nobody is read, and the evidence counts them."""
    User.metadata.create_all(engine)
    with lacre.sqlalchemy(sessionmaker(engine)).begin() as session:
        session.add_all(
            User(id=each, name=f"name {each.int}", shared=f"shared {each.int}", note=None)
            for each in (ANA, RUI)
        )
    before = reader.to_arrow(select(User.name, User.shared).order_by(User.id), rows=9)
    shred_of_row(lacre, ANA)
    after = reader.to_arrow(select(User.name, User.shared, User.note).order_by(User.id), rows=9)

    assert before.column("name").to_pylist() == ["name 10", "name 11"]
    assert after.column("name").to_pylist() == [None, "name 11"]
    assert after.column("shared").to_pylist() == ["shared 10", "shared 11"]
    assert after.column("note").to_pylist() == [None, None]
    assert [event["erased"] for event in recorded("bulk")] == [0, 1]


def test_a_destroyed_key_of_a_class_is_no_erasure(lacre: Lacre, operator: Lacre) -> None:
    """Where values have no subjects, a key that is gone ends the reading."""
    field = HeldField(lacre.guard, email(lacre, subject=False).scheme)
    with lacre.acting_as("svc", roles={"app"}, purpose="test"):
        sealed = field.encrypt("x", row="1")
        assert sealed is not None
        key = bytes(sealed[3:19])
        [row] = [each for each in lacre.store.contents().keys if each.key_id == key]  # type: ignore[attr-defined]
        lacre.store.change(replace=[(row, row.stepped(KeyState.DESTROYED, changed="later"))])  # type: ignore[attr-defined]
        lacre.resolver.forget()
        with pytest.raises(KeyDestroyed):
            field.reading().opened([("1", sealed)])
