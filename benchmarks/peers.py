# SPDX-License-Identifier: Apache-2.0
"""
The peers of `field.py`, each on 32-byte values, in an environment of their own.

Reads one name a line, runs one round of it, prints the seconds of one operation as JSON. Run
by `field.py`; imports nothing of lacre. Each peer is given its cheapest configuration that
still authenticates: no signature, one raw wrapping key in memory, nothing on a network.
"""

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import aws_encryption_sdk
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput
from aws_encryption_sdk import CommitmentPolicy
from aws_encryption_sdk.identifiers import AlgorithmSuite, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKey
from sqlalchemy import String
from sqlalchemy_utils import EncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine

TEXT = "x" * 32
DATA = TEXT.encode()
CONTEXT = {"table": "customers", "column": "token", "row": "42"}
SUITE = AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY  # 0x0478, without a signature


class SQLAlchemyUtils:
    """`EncryptedType` with `AesGcmEngine`, as SQLAlchemy calls it for each value."""

    values = 2000

    def __init__(self) -> None:
        self._type = EncryptedType(String, os.urandom(32).hex(), AesGcmEngine)
        self._stored = self._type.process_bind_param(TEXT, None)

    def encrypt(self) -> None:
        for _ in range(self.values):
            self._type.process_bind_param(TEXT, None)

    def decrypt(self) -> None:
        for _ in range(self.values):
            assert self._type.process_result_value(self._stored, None) == TEXT


class AwsCached:
    """The AWS Encryption SDK with its caching materials manager: every call is a cache hit."""

    values = 100

    def __init__(self) -> None:
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        wrapping = WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.AES_256_GCM_IV12_TAG16_NO_PADDING,
            wrapping_key=os.urandom(32),
            wrapping_key_type=EncryptionKeyType.SYMMETRIC,
        )
        self._manager = aws_encryption_sdk.CachingCryptoMaterialsManager(
            master_key_provider=RawMasterKey(
                provider_id="bench", key_id=b"bench", wrapping_key=wrapping
            ),
            cache=aws_encryption_sdk.LocalCryptoMaterialsCache(1000),
            max_age=86_400.0,
        )
        self._message = self._seal()

    def _seal(self) -> bytes:
        message, _ = self._client.encrypt(
            source=DATA,
            materials_manager=self._manager,
            encryption_context=CONTEXT,
            algorithm=SUITE,
        )
        return message

    def encrypt(self) -> None:
        for _ in range(self.values):
            self._seal()

    def decrypt(self) -> None:
        for _ in range(self.values):
            plain, _header = self._client.decrypt(
                source=self._message, materials_manager=self._manager
            )
            assert plain == DATA


class AwsKeyring:
    """The AWS Encryption SDK with a raw AES keyring of its material providers, without a cache."""

    values = 8

    def __init__(self) -> None:
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
        self._keyring = providers.create_raw_aes_keyring(
            input=CreateRawAesKeyringInput(
                key_namespace="bench",
                key_name="bench",
                wrapping_key=os.urandom(32),
                wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
            )
        )
        self._message = self._seal()

    def _seal(self) -> bytes:
        message, _ = self._client.encrypt(
            source=DATA, keyring=self._keyring, encryption_context=CONTEXT, algorithm=SUITE
        )
        return message

    def encrypt(self) -> None:
        for _ in range(self.values):
            self._seal()

    def decrypt(self) -> None:
        for _ in range(self.values):
            plain, _header = self._client.decrypt(source=self._message, keyring=self._keyring)
            assert plain == DATA


def main() -> None:
    warnings.simplefilter("ignore")  # the peers' own, about their own future
    peers = {
        "sqlalchemy-utils": SQLAlchemyUtils(),
        "aws cached": AwsCached(),
        "aws keyring": AwsKeyring(),
    }
    for line in sys.stdin:
        asked = line.strip()
        if asked == "versions":
            packages = ("aws-encryption-sdk", "sqlalchemy-utils", "sqlalchemy", "cryptography")
            print(json.dumps({name: version(name) for name in packages}), flush=True)
            continue
        name, _, verb = asked.rpartition(" ")
        peer = peers[name]
        operation: Callable[[], None] = peer.encrypt if verb == "encrypt" else peer.decrypt
        start = time.perf_counter()
        operation()
        print(json.dumps((time.perf_counter() - start) / peer.values), flush=True)


if __name__ == "__main__":
    main()
