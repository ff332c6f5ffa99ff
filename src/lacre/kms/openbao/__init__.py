# SPDX-License-Identifier: Apache-2.0
"""
OpenBao's Transit engine, and Vault's, as a key service: KMS keys that never leave their server.

`service` wraps and administers, `login` holds the token, `connection` speaks HTTPS, `answers` turns
what the server said into our errors. Needs hvac. Implements ``spec/key-services.md``, section 3.
"""

from lacre.kms.openbao.connection import Connection
from lacre.kms.openbao.login import Login
from lacre.kms.openbao.service import OpenBaoKeyService
from lacre.kms.openbao.sources import AppRole, GivenToken, TokenFile

__all__ = [
    "AppRole",
    "Connection",
    "GivenToken",
    "Login",
    "OpenBaoKeyService",
    "TokenFile",
]
