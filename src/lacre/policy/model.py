# SPDX-License-Identifier: Apache-2.0
"""
What `lacre.toml` may say: its tables, their types and defaults.

``docs/reference/lacre-toml.md`` is the page for people. Does not read files or the environment
(`lacre.policy.loading`) and does not decide (`lacre.policy.decisions`).
"""

import datetime as dt
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from lacre.errors import ConfigurationError
from lacre.fields.masks import mask as mask_named

__all__ = [
    "AuditSettings",
    "CacheSettings",
    "ClassPolicy",
    "KeyStoreSettings",
    "LocalSettings",
    "PolicyFile",
    "Right",
    "StoreSettings",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KMS_KEY = re.compile(r"local://[a-z0-9][a-z0-9_.-]{0,62}")


class Right(StrEnum):
    """What a role may do with a class."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    MASK = "mask"
    SEARCH = "search"

    # Enum's own hash is a Python function, and a right is hashed for every look.
    __hash__ = str.__hash__


def _a_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "a name is 1 to 63 of a-z, 0-9, dot, dash and underscore, and begins with a letter or digit"
        )
    return text


def _an_identifier(text: str) -> str:
    if not _IDENTIFIER.fullmatch(text) or text == "public" or text.startswith("pg_"):
        raise ValueError(
            "a schema is 1 to 63 of a-z, 0-9 and underscore, begins with a letter, and is neither public nor pg_..."
        )
    return text


def _a_kms_key(text: str) -> str:
    if not _KMS_KEY.fullmatch(text):
        raise ValueError(
            'a KMS key is named by its URI, for example "local://pii-fields"; this release speaks local://'
        )
    return text


def _a_mask(text: str) -> str:
    try:
        mask_named(text)
    except ConfigurationError as error:
        raise ValueError(f"there is no such mask; {error.hint}") from None
    return text


def _a_period(value: object) -> object:
    if value == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4}) days?", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a period is a number of days, "365 days", or "never"')
    return dt.timedelta(days=int(found[1]))


Name = Annotated[str, AfterValidator(_a_name)]
Identifier = Annotated[str, AfterValidator(_an_identifier)]
KmsKey = Annotated[str, AfterValidator(_a_kms_key)]
Period = Annotated[dt.timedelta | None, BeforeValidator(_a_period)]
MaskName = Annotated[str, AfterValidator(_a_mask)]


class _Table(BaseModel):
    # A key nobody knows is a typing error, and a typing error in a policy must not be silent.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class KeyStoreSettings(_Table):
    """`[key_store]`: where wrapped keys are kept. Apart from the data. *schema* is of PostgreSQL."""

    url: str
    schema_: Identifier = Field(default="lacre", alias="schema")


class LocalSettings(_Table):
    """
    `[local]`: the local keystore.

    *identity* is the application's; *operator* the command line's, where it is on this machine;
    *signers* are the operators' public identities, whose signatures are believed; *recipients*
    those of everyone to whom a new version of a KMS key is sealed.
    """

    directory: str
    identity: str
    operator: str | None = None
    signers: tuple[str, ...] = Field(min_length=1)
    recipients: tuple[str, ...] = ()


class StoreSettings(_Table):
    """`[stores.NAME]`: a logical database. Its name is bound in every value it holds."""


class ClassPolicy(_Table):
    """
    `[classes.NAME]`: the KMS keys of a class, its mask, and which role has which rights.

    *rotate_after* is of its branch and data keys, *rotate_index_after* of its index roots; None is
    never. `lacre keys due` reports both, nothing rotates by itself.
    """

    fields: KmsKey
    index: KmsKey | None = None
    mask: MaskName = "hidden"
    denied: Literal["error", "mask"] = "error"
    # One year: well inside the two that NIST SP 800-57 part 1 gives the originator of a
    # symmetric key. A new index root makes every look-up ask twice, so nobody asks for one.
    rotate_after: Period = dt.timedelta(days=365)
    rotate_index_after: Period = None
    rights: dict[Name, frozenset[Right]] = Field(default_factory=dict)


class CacheSettings(_Table):
    """`[cache]`: of unwrapped keys. *age* in seconds is the longest a revoked process keeps reading."""

    age: float = Field(default=300.0, ge=1, le=3600)
    entries: int = Field(default=1000, ge=1, le=1_000_000)


class AuditSettings(_Table):
    """`[audit]`: the evidence. *path* is a file of JSON lines; *buffer* bounds what SIGKILL can lose."""

    path: str
    mode: Literal["bounded"] = "bounded"
    buffer: int = Field(default=10_000, ge=1, le=1_000_000)


class PolicyFile(_Table):
    """The whole file."""

    app: Name
    env: Name
    service: Name
    default_tenant: str | None = Field(default=None, min_length=1, max_length=255)
    purposes: frozenset[str] | None = None
    key_store: KeyStoreSettings
    local: LocalSettings
    stores: dict[Name, StoreSettings] = Field(default_factory=lambda: {"main": StoreSettings()})
    classes: dict[Name, ClassPolicy] = Field(min_length=1)
    cache: CacheSettings = CacheSettings()
    audit: AuditSettings
