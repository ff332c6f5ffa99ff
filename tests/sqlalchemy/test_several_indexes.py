# SPDX-License-Identifier: Apache-2.0
"""Several indexes on one column: each has a column of its own, and all are written together."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lacre import ConfigurationError, DuplicateValue, Lacre
from lacre.sqlalchemy import BlindIndex, encrypted


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    number: Mapped[str | None] = encrypted(
        "pii", index=[BlindIndex("digits"), BlindIndex("exact", unique=True, name="as:written")]
    )


@pytest.fixture
def session(lacre: Lacre, tmp_path: Path) -> Iterator[Session]:
    engine = create_engine(f"sqlite:///{tmp_path / 'accounts.db'}")
    Base.metadata.create_all(engine)
    with (
        lacre.acting_as("svc:app", roles={"app"}, purpose="test", across_yield=True),
        lacre.sqlalchemy(sessionmaker(engine))() as session,
    ):
        yield session
    engine.dispose()


def test_each_has_a_column_of_its_own() -> None:
    """The first index that answers equality has the short name, and every further one its own in it."""
    names = [column.name for column in Account.__table__.columns]
    assert names == [
        "id",
        "number",
        "number_bidx",
        "number_as_written_bidx",
        "number_as_written_bidx2",
    ]


def test_the_first_answers_equality(session: Session) -> None:
    """`==` asks the first index, whatever others there are; the second one is as unique as it says."""
    session.add_all([Account(number="12-3"), Account(number="1-23")])
    session.commit()

    found = session.scalars(select(Account).where(Account.number == "123")).all()
    assert sorted(str(row.number) for row in found) == ["1-23", "12-3"]
    session.add(Account(number="12-3"))
    with pytest.raises(DuplicateValue):
        session.flush()


def test_all_of_them_change_together(session: Session) -> None:
    """Every way of writing sets all tokens, or none where the value is NULL."""
    known = uuid4()
    session.execute(insert(Account), [{"id": known, "number": "1"}, {"number": None}])
    table = Account.__table__
    tokens = select(table.c.number_bidx, table.c.number_as_written_bidx).where(table.c.id == known)
    seen = {tuple(session.execute(tokens).one())}
    session.execute(update(Account), [{"id": known, "number": "2"}])
    seen.add(tuple(session.execute(tokens).one()))
    session.get_one(Account, known, populate_existing=True).number = "3"
    session.commit()
    seen.add(tuple(session.execute(tokens).one()))

    assert len({first for first, _ in seen}) == len({second for _, second in seen}) == 3
    session.get_one(Account, known).number = None
    session.commit()
    assert session.execute(tokens).one() == (None, None)


def test_two_of_one_name_are_refused() -> None:
    """An index is told from another by its name, which is bound in its tokens."""

    class Other(DeclarativeBase):
        pass

    class Twice(Other):
        __tablename__ = "twice"

        id: Mapped[UUID] = mapped_column(primary_key=True)
        number: Mapped[str] = encrypted("pii", index=[BlindIndex("exact"), BlindIndex("exact")])

    with pytest.raises(ConfigurationError, match="one name"):
        _ = Twice.number.property.scheme  # type: ignore[attr-defined]
