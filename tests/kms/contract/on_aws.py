# SPDX-License-Identifier: Apache-2.0
"""
The rigs of AWS KMS: two emulators, of which one is right about ciphertexts and one about permissions and states.

Nothing of this was run against AWS itself. `matrix` says what is left to which.
"""

import base64
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lacre.kms.calling import CallLimits
from lacre.kms.opening import open_key_services
from tests.components.aws import AWS, Credentials
from tests.components.faults import Alter, Answer, FaultProxy, aws_error, fault_proxy
from tests.kms.contract.rig import OPERATIONS, PATIENT, Credential, Service, policy
from tests.kms.local.keystore import KEYSTORE, Memory

__all__ = ["MinistackRig", "MotoRig", "arn_of"]

# The least that each credential needs; what `may` says of it.
_ACTIONS: Mapping[Credential, tuple[str, ...]] = {
    Credential.MINTS: ("kms:GenerateDataKeyWithoutPlaintext",),
    Credential.RUNS: ("kms:Decrypt",),
    Credential.SEARCHES: ("kms:Decrypt",),
    Credential.MOVES: ("kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
    Credential.ADMINISTERS: (
        "kms:DescribeKey",
        "kms:GetKeyRotationStatus",
        "kms:GetKeyPolicy",
        "kms:ListKeyRotations",
        "kms:RotateKeyOnDemand",
    ),
    Credential.NOBODY: ("kms:ListKeys",),
}


class _AwsRig:
    """KMS keys of an emulator, and a principal for each opening."""

    name: ClassVar[str]
    family: ClassVar[str] = "aws"
    minting: ClassVar[str] = "TrentService.GenerateDataKeyWithoutPlaintext"
    unwrapping: ClassVar[str] = "TrentService.Decrypt"

    def __init__(self, server: AWS, directory: Path, environment: pytest.MonkeyPatch) -> None:
        self.server = server
        self._directory = directory
        self._keys: dict[str, str] = {}  # ARN: use
        self._everything = False
        self._profiles: list[str] = []
        self._secrets: list[str] = []
        for variable in ("AWS_CA_BUNDLE", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ENDPOINT_URL"):
            environment.delenv(variable, raising=False)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", str(directory / "credentials"))
        environment.setenv("AWS_CONFIG_FILE", str(directory / "config"))
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def kms_key(self, use: str = "fields") -> str:
        arn = self.server.key()
        self._keys[arn] = use
        return _uri(arn)

    def missing(self) -> str:
        self._everything = True
        return f"aws-kms://{self.server.region}/{self.server.account}/key/{'0' * 8}-0000-4000-8000-{'0' * 12}"

    def open(
        self,
        who: Credential,
        *,
        limits: CallLimits = PATIENT,
        through: FaultProxy | None = None,
        **settings: Any,
    ) -> Service:
        return self._as(self.principal(who), limits, through, **settings)

    def withdrawable(self, who: Credential) -> tuple[Service, Callable[[], None]]:
        principal = self.principal(who)

        def withdraw() -> None:
            self.server.client("iam").delete_access_key(
                UserName=principal.arn.rpartition("/")[2], AccessKeyId=principal.access_key
            )

        return self._as(principal), withdraw

    def _as(
        self,
        principal: Credentials,
        limits: CallLimits = PATIENT,
        through: FaultProxy | None = None,
        **settings: Any,
    ) -> Service:
        table = {"profile": self.profile(principal), "allow_static_keys": True, **settings}
        return self.opened(table, limits, through)

    def principal(self, who: Credential) -> Credentials:
        """Make a principal that may do its part with every KMS key made until now."""
        wanted = {"index"} if who is Credential.SEARCHES else {"fields", "index"}
        keys = [arn for arn, use in self._keys.items() if use in wanted]
        made = self.server.principal(
            self.server.allowed(
                list(_ACTIONS[who]), *(["*"] if self._everything else keys or ["arn:aws:kms:none"])
            )
        )
        self._secrets.append(made.secret_key)
        return made

    def profile(self, principal: Credentials) -> str:
        """Write the credentials of *principal* where the SDK looks; return the name of the profile."""
        name = f"profile-{len(self._profiles)}"
        token = f"aws_session_token = {principal.token}\n" if principal.token else ""
        self._profiles.append(
            f"[{name}]\naws_access_key_id = {principal.access_key}\n"
            f"aws_secret_access_key = {principal.secret_key}\n{token}"
        )
        (self._directory / "credentials").write_text("\n".join(self._profiles))
        (self._directory / "config").write_text("")
        return name

    def opened(
        self,
        table: Mapping[str, Any],
        limits: CallLimits = PATIENT,
        through: FaultProxy | None = None,
    ) -> Service:
        """Open the service as the table `[aws]` of a policy says."""
        endpoint = through.address if through else self.server.endpoint
        file = policy(
            aws={"regions": [self.server.region], "endpoint_url": endpoint, **table},
            calls={"deadline": limits.deadline, "attempt": limits.attempt},
            classes={"pii": {"fields": _uri(next(iter(self._keys), _NONE))}},
        )
        services = open_key_services(
            file, base=self._directory, identity=None, signers=(), memory=Memory(),
            keystore_id=KEYSTORE, environ={},
        )  # fmt: skip
        service: Any = services["aws-kms"]
        return service  # type: ignore[no-any-return]

    def may(self, who: Credential, use: str) -> frozenset[str]:
        may = {
            Credential.MINTS: {"mint"},
            Credential.RUNS: {"unwrap"},
            Credential.SEARCHES: {"unwrap"} if use == "index" else set(),
            Credential.MOVES: {"wrap", "unwrap", "rewrap"},
            Credential.ADMINISTERS: {"status"},
            Credential.NOBODY: set(),
        }[who]
        assert may <= set(OPERATIONS)
        return frozenset(may)

    def asked(self) -> int:
        return len(self.server.requests())

    def rotate(self, kms_key: str) -> int | None:
        return self.open(Credential.ADMINISTERS).rotate(kms_key)

    def disable(self, kms_key: str) -> None:
        self.server.client().disable_key(KeyId=arn_of(kms_key))

    def enable(self, kms_key: str) -> None:
        self.server.client().enable_key(KeyId=arn_of(kms_key))

    def retire(self, kms_key: str) -> None:
        raise NotImplementedError(kms_key)

    def destroy(self, kms_key: str) -> None:
        raise NotImplementedError(kms_key)

    def schedule_deletion(self, kms_key: str) -> None:
        """Begin to wait for the deletion of a KMS key."""
        self.server.client().schedule_key_deletion(KeyId=arn_of(kms_key), PendingWindowInDays=7)

    def proxy(self) -> AbstractContextManager[FaultProxy]:
        return fault_proxy(self.server.endpoint)

    def later(self) -> Answer:
        return aws_error("ThrottlingException")

    def error(self, status: int, text: str) -> Answer:
        code = "KMSInternalException" if status >= 500 else "ValidationException"
        made = aws_error(code, status=status)
        return Answer(status=status, headers=made.headers, body={"__type": code, "message": text})

    def opened_as(self, key: bytes) -> Alter:
        plaintext = base64.b64encode(key).decode()
        return Alter(change=lambda answer: {**answer, "Plaintext": plaintext})

    def secrets(self) -> list[str]:
        return list(self._secrets)


class MotoRig(_AwsRig):
    """For ciphertexts."""

    name: ClassVar[str] = "moto"


class MinistackRig(_AwsRig):
    """For permissions and the states of keys."""

    name: ClassVar[str] = "ministack"


_NONE = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000"


def arn_of(kms_key: str) -> str:
    """Return the ARN that a URI names."""
    region, account, _, key = kms_key.removeprefix("aws-kms://").split("/")
    return f"arn:aws:kms:{region}:{account}:key/{key}"


def _uri(arn: str) -> str:
    _, _, _, region, account, key = arn.split(":")
    return f"aws-kms://{region}/{account}/{key}"
