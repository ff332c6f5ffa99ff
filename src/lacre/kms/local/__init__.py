# SPDX-License-Identifier: Apache-2.0
"""
The local keystore: KMS keys as signed files, their material sealed to named identities.

Implements ``spec/local-keystore.md``. For development and single-node use: unlike AWS KMS and
OpenBao it hands the root key to the process, so a process that was once a recipient may keep it.

`service` is what an application uses, `administration` what its operator does.
"""

from lacre.keys.seen import SeenSerial, SerialMemory
from lacre.kms.local.administration import KeystoreAdministration, new_keystore_id
from lacre.kms.local.identity import Identity, PublicIdentity
from lacre.kms.local.manifest import Manifest, Recipient, Version
from lacre.kms.local.service import LocalKeyService

__all__ = [
    "Identity",
    "KeystoreAdministration",
    "LocalKeyService",
    "Manifest",
    "PublicIdentity",
    "Recipient",
    "SeenSerial",
    "SerialMemory",
    "Version",
    "new_keystore_id",
]
