# SPDX-License-Identifier: Apache-2.0
"""
KMS keys by name: the URIs that `lacre.toml` may use, and what they are pinned to.

    local://NAME
    openbao://MOUNT/NAME                    MOUNT may have several parts
    aws-kms://REGION/ACCOUNT/key/ID         names one key for ever
    aws-kms://REGION/alias/NAME             a label: anyone with kms:UpdateAlias can move it

Rule: nothing is wrapped or unwrapped under a label. An alias is resolved once, by a person, and the
result stands in `lacre.lock` under review. Implements ``spec/key-services.md``, section 1. Calls no
key service.
"""

import re
from collections.abc import Mapping
from typing import Final

from lacre.errors import ConfigurationError

__all__ = ["REGION", "SCHEMES", "check_kms_key", "expanded", "is_alias", "pinned", "scheme_of"]

SCHEMES: Final = ("aws-kms", "local", "openbao")

_NAME = r"[a-z0-9][a-z0-9_.-]{0,62}"
_PART = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
REGION: Final = r"[a-z]{2,4}(?:-[a-z]+)+-[0-9]{1,2}"
_ALIAS = re.compile(rf"aws-kms://{REGION}/alias/[A-Za-z0-9/_-]{{1,250}}")
_FORMS = (
    re.compile(rf"local://{_NAME}"),
    re.compile(rf"openbao://(?:{_PART}/)+{_PART}"),
    # A multi-Region key has the same id, "mrk-" and 32 hex digits, in each of its regions.
    re.compile(rf"aws-kms://{REGION}/[0-9]{{12}}/key/(?:mrk-[0-9a-f]{{32}}|[0-9a-f-]{{36}})"),
    _ALIAS,
)


def check_kms_key(text: str) -> str:
    """Return *text* if it is a KMS key's URI, or raise ValueError, which says what one looks like."""
    if len(text) > 512 or not any(form.fullmatch(text) for form in _FORMS):
        raise ValueError(
            "a KMS key is named by its URI: local://NAME, openbao://MOUNT/NAME, "
            "aws-kms://REGION/ACCOUNT/key/ID or aws-kms://REGION/alias/NAME"
        )
    return text


def scheme_of(kms_key: str) -> str:
    """Return which key service holds the key: one of `SCHEMES`, where the URI is right."""
    return kms_key.partition("://")[0]


def is_alias(kms_key: str) -> bool:
    """Whether the URI is a label that has to be pinned before it is used."""
    return _ALIAS.fullmatch(kms_key) is not None


def expanded(template: str, *, class_: str, use: str) -> str:
    """Return the URI that *template* names for a class and use, `fields` or `index`."""
    return template.replace("{class}", class_).replace("{use}", use)


def pinned(kms_key: str, pins: Mapping[str, str]) -> str:
    """
    Return the URI under which keys are wrapped: the same, or what the alias was pinned to.

    Raises:
        ConfigurationError: an alias that nobody pinned.
    """
    if not is_alias(kms_key):
        return kms_key
    try:
        return pins[kms_key]
    except KeyError:
        raise ConfigurationError(
            f"{kms_key} is an alias, and lacre.lock does not say of which key",
            hint="run `lacre keys pin`, and review lacre.lock",
        ) from None
