# SPDX-License-Identifier: Apache-2.0
"""
`[legacy.NAME]` of `lacre.toml`: a reader for what another library encrypted, and the day it ends.

Without such a table nothing reads another library's values. Secrets are in files that it names, one a line. Does not read them and
knows no format's cryptography (`lacre.legacy`).
"""

import datetime as dt
from typing import Literal, Self

from pydantic import Field, model_validator

from lacre.policy.values import KmsKey, Table

__all__ = ["LegacySettings"]

Format = Literal["nexus", "chandlery", "fernet", "sqlalchemy-utils", "django-fernet", "rails"]

# What a format needs, and what else it takes.
_NEEDED: dict[str, set[str]] = {
    "nexus": {"kms_key"},
    "chandlery": {"kms_key", "table", "column"},
    "fernet": {"keys"},
    "sqlalchemy-utils": {"keys", "engine"},
    "django-fernet": {"keys", "salts"},
    "rails": {"keys", "salts"},
}
_TAKEN: dict[str, set[str]] = {
    "nexus": {"ciphers"},
    "chandlery": set(),
    "fernet": {"type"},
    "sqlalchemy-utils": {"type", "padding"},
    "django-fernet": {"type"},
    "rails": {"type", "digests"},
}
_ALWAYS = {"format", "until"}


class LegacySettings(Table):
    """
    `[legacy.NAME]`: another library's values, decrypt-only, until *until* and not a day longer.

    *keys* and *salts* are files of secrets, one a line, that only their owner reads; *kms_key* opened the data keys beside the
    values. Which settings a *format* needs and takes, ``docs/how-to/move-in.md`` says.
    """

    format: Format
    until: dt.date
    keys: str | None = None
    salts: str | None = None
    kms_key: KmsKey | None = None
    type: Literal["str", "int", "bool", "decimal", "date", "datetime", "uuid", "json"] = "str"
    table: str | None = Field(default=None, min_length=1)
    column: str | None = Field(default=None, min_length=1)
    ciphers: tuple[Literal["createCipher", "createCipheriv"], ...] = (
        "createCipher",
        "createCipheriv",
    )
    engine: Literal["aes", "aes-gcm", "fernet"] | None = None
    padding: Literal["naive", "pkcs5", "oneandzeroes", "zeroes"] = "naive"
    digests: tuple[Literal["sha1", "sha256"], ...] = ("sha256", "sha1")

    @model_validator(mode="after")
    def _has_what_its_format_takes(self) -> Self:
        needed, given = _NEEDED[self.format], self.model_fields_set - _ALWAYS
        if missing := sorted(name for name in needed if getattr(self, name) is None):
            raise ValueError(f"the format {self.format} needs {', '.join(missing)}")
        if beyond := sorted(given - needed - _TAKEN[self.format]):
            raise ValueError(f"the format {self.format} has no {', '.join(beyond)}")
        return self
