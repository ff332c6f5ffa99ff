# SPDX-License-Identifier: Apache-2.0
"""
The reader that a `[legacy.NAME]` of lacre.toml describes, with its secrets out of files.

A file of secrets is checked as an identity's is: ours, and open to nobody else. Secrets come from nowhere else, and from no
argument or variable of the environment.
"""

import datetime as dt
from pathlib import Path

from lacre.errors import ConfigurationError
from lacre.legacy.chandlery import ChandleryReader
from lacre.legacy.data_keys import Unwrap, of_settings
from lacre.legacy.django_fernet import DjangoFernetReader
from lacre.legacy.fernet import FernetReader
from lacre.legacy.nexus import NexusReader
from lacre.legacy.rails import RailsReader
from lacre.legacy.reader import LegacyReader
from lacre.legacy.sqlalchemy_utils import SqlalchemyUtilsReader
from lacre.policy.legacy import LegacySettings
from lacre.policy.model import PolicyFile

__all__ = ["ended", "open_reader", "settings_of"]


def settings_of(file: PolicyFile, name: str) -> LegacySettings:
    """
    Return the table of that name.

    Raises:
        ConfigurationError: there is none: legacy readers are off unless one is named.
    """
    found = file.legacy.get(name)
    if found is None:
        raise ConfigurationError(
            f"lacre.toml has no legacy reader {name!r}", hint=f"add [legacy.{name}]"
        )
    return found


def ended(name: str, until: dt.date) -> ConfigurationError:
    """What is raised after a reader's last day."""
    return ConfigurationError(
        f"the time of the legacy reader {name!r} was over after {until}",
        hint=f"what is still in the old format is not read any more; move it in, or review a later until of [legacy.{name}]",
    )


def open_reader(
    file: PolicyFile,
    name: str,
    *,
    base: Path,
    day: dt.date,
    unwrap: Unwrap | None = None,
) -> LegacyReader:
    """
    Return the reader *name*.

    Args:
        base: what paths of the file are relative to.
        day: today, in UTC.
        unwrap: opens data keys, in the place of what *file* says.

    Raises:
        ConfigurationError: no such reader, its last day is over, or a file of secrets is not as it has to be.
    """
    settings = settings_of(file, name)
    if day > settings.until:
        raise ended(name, settings.until)
    match settings.format:
        case "nexus":
            return NexusReader(
                name=name, unwrap=unwrap or _unwrap(file, settings), ciphers=settings.ciphers
            )
        case "chandlery":
            return ChandleryReader(
                name=name,
                unwrap=unwrap or _unwrap(file, settings),
                table=settings.table or "",
                column=settings.column or "",
            )
        case "fernet":
            keys = _secrets(base, settings.keys)
            return FernetReader(name=name, keys=keys, value_type=settings.type)
        case "sqlalchemy-utils":
            return SqlalchemyUtilsReader(
                name=name,
                key=_only(name, _secrets(base, settings.keys)),
                engine=settings.engine or "aes",
                padding=settings.padding,
                value_type=settings.type,
            )
        case "django-fernet":
            return DjangoFernetReader(
                name=name,
                secret_keys=_secrets(base, settings.keys),
                salts=_secrets(base, settings.salts),
                value_type=settings.type,
            )
        case "rails":
            return RailsReader(
                name=name,
                keys=_secrets(base, settings.keys),
                salt=_only(name, _secrets(base, settings.salts)),
                digests=settings.digests,
                value_type=settings.type,
            )


def _unwrap(file: PolicyFile, settings: LegacySettings) -> Unwrap:
    if file.aws is None:
        raise ConfigurationError(
            "a legacy reader needs AWS KMS, and lacre.toml has no [aws]",
            hint="[aws] regions = [...]",
        )
    return of_settings(file.aws, file.calls, kms_key=settings.kms_key or "")


def _secrets(base: Path, name: str | None) -> list[str]:
    from lacre.kms.local.files import read_private

    path = base / (name or "")
    try:
        lines = read_private(path).decode().split("\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is no text") from None
    found = [line for line in (line.removesuffix("\r") for line in lines) if line]
    if not found:
        raise ConfigurationError(f"{path} is empty", hint="one secret a line")
    return found


def _only(name: str, secrets: list[str]) -> str:
    if (count := len(secrets)) != 1:
        del secrets
        raise ConfigurationError(
            f"the legacy reader {name!r} takes one secret where its file has {count} lines",
            hint="a reader for each: [legacy.NAME] of its own",
        )
    return secrets[0]
