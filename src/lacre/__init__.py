# SPDX-License-Identifier: Apache-2.0
"""lacre keeps an application's sensitive data encrypted wherever it goes. The public face: names only."""

from lacre.application import Lacre
from lacre.context import acting_as
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
from lacre.fields.index import BlindIndex
from lacre.sensitive import Mask

__all__ = [
    "AccessDenied",
    "ActingEnded",
    "AlreadyEncrypted",
    "BlindIndex",
    "ConfigurationError",
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
    "PlaintextFound",
    "Tampered",
    "UnsupportedQuery",
    "acting_as",
]
