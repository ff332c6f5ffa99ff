# SPDX-License-Identifier: Apache-2.0
"""
The anchors of `[audit.anchors.NAME]`, opened. What needs an optional package is imported where one is of that kind.

Puts and reads nothing.
"""

from pathlib import Path

from lacre.audit.anchors import Anchor
from lacre.errors import ConfigurationError
from lacre.policy.anchors import AnchorSettings, DatabaseAnchorSettings, FileAnchorSettings
from lacre.policy.audit import AuditSettings

__all__ = ["open_anchors"]

_SQLITE = "sqlite:///"


def open_anchors(settings: AuditSettings, base: Path) -> list[Anchor]:
    """
    Return the anchors, in the order of their names.

    Args:
        base: what paths are relative to.

    Raises:
        ConfigurationError: one cannot be opened as it is described.
    """
    return [_opened(name, each, settings, base) for name, each in sorted(settings.anchors.items())]


def _opened(name: str, each: AnchorSettings, settings: AuditSettings, base: Path) -> Anchor:
    if isinstance(each, FileAnchorSettings):
        from lacre.sinks.anchors.file import FileAnchor

        return FileAnchor(name, base / each.path)
    try:
        if isinstance(each, DatabaseAnchorSettings):
            from lacre.sinks.anchors.database import DatabaseAnchor

            url = each.url
            if url.startswith(_SQLITE) and not url.startswith(f"{_SQLITE}/"):
                url = _SQLITE + str(base / url.removeprefix(_SQLITE))
            return DatabaseAnchor(name, url)
        from lacre.sinks.anchors.s3 import S3Anchor
    except ModuleNotFoundError as error:
        extra = "sqlalchemy" if isinstance(each, DatabaseAnchorSettings) else "aws"
        raise ConfigurationError(
            f"the anchor {name} needs {error.name}, which is not installed",
            hint=f"pip install 'lacre[{extra}]'",
        ) from None
    term = each.keep or settings.retention
    return S3Anchor(
        name,
        bucket=each.bucket,
        prefix=each.prefix,
        region=each.region,
        endpoint_url=each.endpoint_url,
        keep_until=term.after,
    )
