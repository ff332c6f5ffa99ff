# SPDX-License-Identifier: Apache-2.0
"""
The values that settings of `lacre.toml` take: names, keys, regions, addresses, periods.

Each check says what would be right. Does not know the tables (`lacre.policy.model`).
"""

import datetime as dt
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from lacre.errors import ConfigurationError
from lacre.fields.masks import mask as mask_named
from lacre.keys.kms_keys import REGION, check_kms_key, expanded

__all__ = [
    "Address",
    "Identifier",
    "KmsKey",
    "KmsKeyTemplate",
    "MaskName",
    "Name",
    "Period",
    "Region",
    "Span",
    "Table",
    "period",
    "span",
]

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")


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


def _a_template(text: str) -> str:
    if "{class}" not in text or "{use}" not in text:
        raise ValueError('it names every key, so it holds both "{class}" and "{use}"')
    check_kms_key(expanded(text, class_="pii", use="fields"))
    return text


def _a_region(text: str) -> str:
    if not re.fullmatch(REGION, text):
        raise ValueError('a region is named as AWS names it, for example "eu-central-1"')
    return text


def _an_address(text: str) -> str:
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        port_is_right = False
    else:
        # What is shown in errors has no password, and what paths are put behind has no fragment.
        plain = text.isprintable() and not any(mark in text for mark in " @?#\\")
        if port_is_right and parts.hostname and plain and not parts.path.strip("/"):
            # Without TLS the credential and every key would cross the network in the clear.
            if parts.scheme == "https":
                return text
            if parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}:
                return text
    raise ValueError(
        "an address is https://HOST:PORT and nothing more; http:// only on this machine itself"
    )


def _a_mask(text: str) -> str:
    try:
        mask_named(text)
    except ConfigurationError as error:
        raise ValueError(f"there is no such mask; {error.hint}") from None
    return text


def period(value: object) -> dt.timedelta | None:
    """Read ``"90 days"``, or ``"never"``, which is None; raise `ValueError` for anything else."""
    if value == "never":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4}) days?", value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a period is a number of days, "365 days", or "never"')
    return dt.timedelta(days=int(found[1]))


def span(value: object, *, most: dt.timedelta = dt.timedelta(days=7)) -> dt.timedelta:
    """Read ``"10 minutes"``; raise `ValueError` for anything that is no span of at most *most*."""
    found = (
        re.fullmatch(r"([1-9][0-9]{0,6}) (second|minute|hour|day)s?", value)
        if isinstance(value, str)
        else None
    )
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 1 <= seconds <= most.total_seconds():
        raise ValueError(
            f'a span is "30 seconds", "10 minutes", "1 hour" or "{most.days} days", at most that'
        )
    return dt.timedelta(seconds=seconds)


Name = Annotated[str, AfterValidator(_a_name)]
Identifier = Annotated[str, AfterValidator(_an_identifier)]
KmsKey = Annotated[str, AfterValidator(check_kms_key)]
KmsKeyTemplate = Annotated[str, AfterValidator(_a_template)]
Region = Annotated[str, AfterValidator(_a_region)]
Address = Annotated[str, AfterValidator(_an_address)]
Span = Annotated[dt.timedelta, BeforeValidator(span)]
Period = Annotated[dt.timedelta | None, BeforeValidator(period)]
MaskName = Annotated[str, AfterValidator(_a_mask)]


class Table(BaseModel):
    # A key nobody knows is a typing error, and a typing error in a policy must not be silent.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
