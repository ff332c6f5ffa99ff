# SPDX-License-Identifier: Apache-2.0
"""
The rigs without a server: the local keystore, and the key service of `lacre.testing`.

In the local keystore a credential is an identity: it is a recipient of a KMS key, or it is not.
"""

from collections.abc import Collection
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

from lacre.kms.calling import CallLimits
from lacre.kms.local import Identity, KeystoreAdministration, LocalKeyService, PublicIdentity
from lacre.testing import MemoryKeyService
from tests.kms.contract.rig import OPERATIONS, PATIENT, Credential, Service
from tests.kms.local.keystore import KEYSTORE, OPERATOR, Memory

__all__ = ["LocalRig", "MemoryRig"]

_SIMPLE = "tests say how the double behaves; its keys have no states"

_IDENTITIES = {
    who: Identity(f"svc:{who}", bytes([number]) * 64) for number, who in enumerate(Credential, 1)
}


class LocalRig:
    """A keystore directory."""

    name: ClassVar[str] = "local"
    family: ClassVar[str] = "local"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._operator = KeystoreAdministration(directory, keystore_id=KEYSTORE, signer=OPERATOR)

    def kms_key(self, use: str = "fields") -> str:
        name = f"k{uuid4().hex[:12]}-{use}"
        self._operator.create_key(name, self._recipients(use))
        return f"local://{name}"

    def missing(self) -> str:
        return "local://nothing"

    def open(self, who: Credential, *, limits: CallLimits = PATIENT) -> Service:
        del limits  # of remote services
        return LocalKeyService(
            self._directory,
            identity=_IDENTITIES[who],
            signers=[OPERATOR.public],
            memory=Memory(),
            keystore_id=KEYSTORE,
        )

    def may(self, who: Credential, use: str) -> frozenset[str]:
        # Whoever can open a KMS key of the local keystore can do everything with it.
        known = {each.fingerprint for each in self._recipients(use)}
        return frozenset(OPERATIONS if _IDENTITIES[who].fingerprint in known else ())

    def asked(self) -> int:
        return 0  # there is nobody to ask

    def rotate(self, kms_key: str) -> int:
        return self._operator.rotate_key(_name(kms_key), self._everybody()).newest.number

    def disable(self, kms_key: str) -> None:
        name = _name(kms_key)
        for version in self._operator.manifest(name).versions:
            self._operator.disable_version(name, version.number)

    def enable(self, kms_key: str) -> None:
        name = _name(kms_key)
        for version in self._operator.manifest(name).versions:
            self._operator.enable_version(name, version.number)

    def retire(self, kms_key: str) -> None:
        name = _name(kms_key)
        for version in self._operator.manifest(name).versions[1:]:
            self._operator.destroy_version(name, version.number)

    def destroy(self, kms_key: str) -> None:
        self.disable(kms_key)
        name = _name(kms_key)
        for version in self._operator.manifest(name).versions:
            self._operator.destroy_version(name, version.number)

    def _recipients(self, use: str) -> Collection[PublicIdentity]:
        without = {Credential.NOBODY} | ({Credential.SEARCHES} if use == "fields" else set())
        return [
            OPERATOR.public,
            *(each.public for who, each in _IDENTITIES.items() if who not in without),
        ]

    def _everybody(self) -> Collection[PublicIdentity]:
        return [OPERATOR.public, *(each.public for each in _IDENTITIES.values())]


class MemoryRig:
    """`lacre.testing.MemoryKeyService`, which users' own tests run on: a double, held to the same contract."""

    name: ClassVar[str] = "memory"
    family: ClassVar[str] = "memory"

    def __init__(self) -> None:
        self._service = MemoryKeyService()

    def kms_key(self, use: str = "fields") -> str:
        made = f"local://k{uuid4().hex[:12]}-{use}"
        self._service.mint(made, {"made": "with its first mint"})
        return made

    def missing(self) -> str:
        return "local://nothing"

    def open(self, who: Credential, *, limits: CallLimits = PATIENT) -> Service:
        return self._service

    def may(self, who: Credential, use: str) -> frozenset[str]:
        return frozenset(OPERATIONS)

    def asked(self) -> int:
        return self._service.calls

    def rotate(self, kms_key: str) -> int:
        return self._service.rotate(kms_key)

    def disable(self, kms_key: str) -> None:
        raise NotImplementedError(_SIMPLE)

    enable = retire = destroy = disable


def _name(kms_key: str) -> str:
    return kms_key.removeprefix("local://")
