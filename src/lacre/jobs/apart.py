# SPDX-License-Identifier: Apache-2.0
"""
Whether the key store lives apart from the data: in another database, and another backup set.

Sealing makes every older dump of the key store worthless. Where key store and data share one
database, going back to a point in time loses what was sealed; and a copy of the data carries the
wrapped keys along. Asks both databases who they are; reads no row of theirs.
"""

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa

from lacre.errors import ConfigurationError

__all__ = ["check_apart", "place_of"]


def place_of(url: str, base: Path) -> tuple[str, ...]:
    """
    Return what identifies the database at *url*: its kind, its server or file, its name.

    Raises:
        ConfigurationError: it cannot be asked.
    """
    try:
        parsed = sa.make_url(url if "://" in url else f"sqlite:///{url}")
    except sa.exc.ArgumentError:
        raise ConfigurationError("the database's URL cannot be read") from None
    if parsed.get_backend_name() == "sqlite":
        return ("sqlite", "", str((base / str(parsed.database)).resolve()))
    engine = sa.create_engine(parsed, hide_parameters=True, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            asked = sa.text(
                "SELECT system_identifier::text, pg_catalog.current_database()"
                " FROM pg_catalog.pg_control_system()"
            )
            server, name = connection.execute(asked).one()
    except sa.exc.SQLAlchemyError as error:
        raise ConfigurationError(
            f"the database cannot be asked which it is ({type(error).__name__})",
            hint="check the URL; it needs the right to call pg_control_system()",
        ) from None
    finally:
        engine.dispose()
    return ("postgresql", str(server), str(name))


def check_apart(key_store: str, database: str, base: Path) -> Sequence[str]:
    """
    Return what is to be warned of; refuse where both are one database.

    Raises:
        ConfigurationError: the key store is in the database that holds the data.
    """
    one, other = place_of(key_store, base), place_of(database, base)
    if one == other:
        raise ConfigurationError(
            "the key store is in the database that holds the data, so a backup of one is a backup of both",
            hint="with [sealing] the key store lives in a database of its own, with backups of its own",
        )
    if one[0] == "postgresql" and one[:2] == other[:2]:
        return [
            "the key store is on the server that holds the data: going back to a point in time takes both back, and with them keys that were destroyed"
        ]
    return []
