# SPDX-License-Identifier: Apache-2.0
"""lacre keeps an application's sensitive data encrypted wherever it goes. The public face: names only."""

from lacre.application import Lacre
from lacre.context import Origin, acting_as
from lacre.errors import (
    AccessDenied,
    ActingEnded,
    AlreadyEncrypted,
    ConfigurationError,
    DuplicateValue,
    EvidenceUnavailable,
    InvalidValue,
    KeyUnavailable,
    LacreError,
    MaskWritten,
    NoPrincipal,
    NoTenant,
    PlaintextFound,
    Tampered,
    UnsupportedQuery,
)
from lacre.fields.contains_index import ContainsIndex
from lacre.fields.index import BlindIndex
from lacre.fields.prefix_index import PrefixIndex
from lacre.sensitive import Mask

__all__ = [
    "AccessDenied",
    "ActingEnded",
    "AlreadyEncrypted",
    "BlindIndex",
    "ConfigurationError",
    "ContainsIndex",
    "DuplicateValue",
    "EvidenceUnavailable",
    "InvalidValue",
    "KeyUnavailable",
    "Lacre",
    "LacreError",
    "Mask",
    "MaskWritten",
    "NoPrincipal",
    "NoTenant",
    "Origin",
    "PlaintextFound",
    "PrefixIndex",
    "Tampered",
    "UnsupportedQuery",
    "acting_as",
]
