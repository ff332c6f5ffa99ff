# SPDX-License-Identifier: Apache-2.0
"""
The SQL key store at a URL. SQLAlchemy is imported by the call: an application that brings its own
key store needs none.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from lacre.errors import ConfigurationError

if TYPE_CHECKING:
    from lacre.stores.sql import SQLKeyStore

__all__ = ["open_key_store"]


def open_key_store(url: str, base: Path, *, schema: str = "lacre") -> "SQLKeyStore":
    """Return the SQL key store at *url*; the path of an SQLite file is relative to *base*, *schema* is of PostgreSQL."""
    try:
        from lacre.stores.database import beside
        from lacre.stores.sql import SQLKeyStore
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", hint="pip install 'lacre[sqlalchemy]'"
        ) from None
    return SQLKeyStore(beside(url, base), schema=schema)
