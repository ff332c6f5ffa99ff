# SPDX-License-Identifier: Apache-2.0
"""
The evidence log that `[audit]` names. SQLAlchemy is imported by the call: who keeps evidence as
lines only needs none.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from lacre.errors import ConfigurationError
from lacre.policy.model import PolicyFile

if TYPE_CHECKING:
    from lacre.stores.log.log import AuditLog

__all__ = ["open_log"]


def open_log(settings: PolicyFile, base: Path) -> "AuditLog":
    """
    Return the log at `[audit] url`; the path of an SQLite file is relative to *base*.

    Raises:
        ConfigurationError: evidence is kept as lines only, or SQLAlchemy is not installed.
    """
    url = settings.audit.url
    if url is None:
        raise ConfigurationError(
            "lacre.toml names no evidence log, only a file of lines",
            hint='[audit] url = "sqlite:///lacre/audit.db", then `lacre db upgrade`',
        )
    try:
        from lacre.stores.database import beside
        from lacre.stores.log.log import AuditLog
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", hint="pip install 'lacre[sqlalchemy]'"
        ) from None
    return AuditLog(beside(url, base), schema=settings.audit.schema_)
