# SPDX-License-Identifier: Apache-2.0
"""
An anchor in another database: one row for each checkpoint, inserted and never changed.

As good as its administrators are others than those of the log's database; give the login that
puts them there INSERT and SELECT on the table, and nothing more. Makes the table where it may and
where there is none.
"""

from typing import final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from lacre.audit.notes import Checkpoint
from lacre.errors import ConfigurationError, EvidenceUnavailable

__all__ = ["ANCHOR", "DatabaseAnchor"]

# A checkpoint once: another note of the same tree says nothing more, and one of another tree of the
# same size is to be seen beside the first.
ANCHOR = sa.Table(
    "lacre_anchor",
    sa.MetaData(),
    sa.Column("origin", sa.String(255), primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.LargeBinary(32), primary_key=True),
    sa.Column("note", sa.Text, nullable=False),
)


@final
class DatabaseAnchor:
    """Keeps checkpoints in the table ``lacre_anchor`` of the database at *url*, an SQLAlchemy URL."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        try:
            parsed = sa.make_url(url)
            self._engine = sa.create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
        except (SQLAlchemyError, ImportError, ValueError):
            raise ConfigurationError(
                f"the URL of the anchor {name} cannot be read, or its driver is not installed",
                hint='for example url = "postgresql+psycopg://host/database"',
            ) from None

    def put(self, checkpoint: Checkpoint, note: str) -> None:
        """See `Anchor.put`."""
        row = {
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": checkpoint.root,
            "note": note,
        }
        try:
            if not sa.inspect(self._engine).has_table(ANCHOR.name):
                ANCHOR.create(self._engine, checkfirst=True)
            with self._engine.begin() as connection:
                connection.execute(sa.insert(ANCHOR).values(**row))
        except IntegrityError:
            return  # it is there
        except SQLAlchemyError as error:
            raise self._unavailable(error) from None

    def read(self) -> list[str]:
        """See `Anchor.read`."""
        try:
            if not sa.inspect(self._engine).has_table(ANCHOR.name):
                return []
            with self._engine.connect() as connection:
                return list(
                    connection.scalars(
                        sa.select(ANCHOR.c.note).order_by(ANCHOR.c.origin, ANCHOR.c.size)
                    )
                )
        except SQLAlchemyError as error:
            raise self._unavailable(error) from None

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    def __repr__(self) -> str:
        return f"<DatabaseAnchor {self.name}>"

    def _unavailable(self, error: SQLAlchemyError) -> EvidenceUnavailable:
        # Its type alone: what a database says may quote its address and user.
        return EvidenceUnavailable(
            f"the anchor {self.name} cannot be reached ({type(error).__name__})",
            hint="is its database up, and may its login INSERT and SELECT on lacre_anchor?",
        )
