# SPDX-License-Identifier: Apache-2.0
"""
Two emulators of AWS of the tests' own, as real servers on 127.0.0.1. No emulator tells the whole truth.

``moto`` is for ciphertexts:

* real AES-GCM; a wrong context, a wrong key, a changed blob are refused; `ReEncrypt`; multi-Region replicas
* identity policies decide per key, for users and assumed roles, with AWS's codes (what `launch_moto` adds)
* signatures are checked; nobody but whom `principal` made, and `admin`, gets in
* NOT: key policies, grants, conditions (a statement with one allows as if it had none), disabled keys and keys that
  wait for deletion (both still decrypt), `SourceKeyId` of `ReEncrypt`, `DryRun`, the end of a session, CloudTrail
* `GetKeyPolicy` needs `PolicyName`; rotation is bookkeeping, its period is not kept

``ministack`` is for permissions and key states:

* identity policies **and** key policies decide per key; an explicit denial wins
* a disabled key is `DisabledException`, one that waits for deletion `KMSInvalidStateException`
* `AccessDeniedException` comes with 403, not with AWS's 400
* signatures are checked, except the secret of the account's root; the access key ``test`` is root, too
* CloudTrail: `LookupEvents` returns the newest 50 and does not page; refused calls are there, without error codes
* condition keys of KMS are absent: `StringEquals` on a context is never met, `ForAllValues` always
* calls by alias are authorised on the alias' ARN, not on the key's: allowed on the key, they are denied
* NOT: its cipher is a fake. **A blob opens under another key, and after being changed, into garbage**; only the
  context is compared. No `ReEncrypt`, `RotateKeyOnDemand`, `ListKeyRotations`; `DryRun` is not looked at

What tests rest on is tested in `test_aws.py`. Neither enforces grants or quotas: `faults` answers as a throttled
service does.
"""

import json
import shutil
import sys
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest

from tests.components.processes import ended, free_port, started, wait_until

__all__ = [
    "ACCOUNT",
    "AWS",
    "REGION",
    "REPLICA_REGION",
    "Credentials",
    "ministack_server",
    "moto_server",
    "statement",
]

ACCOUNT = "123456789012"
REGION = "us-east-1"
REPLICA_REGION = "eu-west-1"
_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Of a principal; *token* is there for an assumed role."""

    arn: str
    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def environ(self) -> dict[str, str]:
        """Return what the default chain of credentials reads."""
        token = {"AWS_SESSION_TOKEN": self.token} if self.token else {}
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            **token,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AWS:
    """An emulator that runs. *admin* may do everything, and makes what the methods make."""

    name: str
    directory: Path
    endpoint: str
    admin: Credentials
    region: str = REGION
    account: str = ACCOUNT

    @property
    def record(self) -> Path:
        """Return the file with one line of JSON for each signed request."""
        return self.directory / "requests.json"

    def client(
        self,
        service: str = "kms",
        credentials: Credentials | None = None,
        *,
        region: str | None = None,
        endpoint: str | None = None,
        **config: Any,
    ) -> Any:
        """
        Return a client of boto3, that does not retry.

        Args:
            credentials: `admin`'s where none are given.
            endpoint: of a proxy before the emulator.
            config: for botocore's `Config`.
        """
        import boto3
        from botocore.config import Config

        who = credentials or self.admin
        settings: dict[str, Any] = {"retries": {"total_max_attempts": 1}, **config}
        return boto3.client(
            service, region_name=region or self.region, endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=who.access_key, aws_secret_access_key=who.secret_key,
            aws_session_token=who.token, config=Config(**settings),
        )  # fmt: skip

    def environ(self, credentials: Credentials | None = None) -> dict[str, str]:
        """Return the environment of a process whose AWS this is, as *credentials*."""
        return {
            **(credentials or self.admin).environ(),
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def key(
        self, *, multi_region: bool = False, policy: Mapping[str, Any] | str | None = None
    ) -> str:
        """Create a symmetric key; return its ARN. Without *policy*, identity policies decide."""
        given: dict[str, Any] = {"MultiRegion": multi_region}
        if policy is not None:
            given |= {"Policy": _text(policy), "BypassPolicyLockoutSafetyCheck": True}
        return str(self.client().create_key(**given)["KeyMetadata"]["Arn"])

    def replica(self, arn: str, region: str = REPLICA_REGION) -> str:
        """Replicate a multi-Region key; return the replica's ARN."""
        made = self.client(region=arn.split(":")[3]).replicate_key(KeyId=arn, ReplicaRegion=region)
        return str(made["ReplicaKeyMetadata"]["Arn"])

    def alias(self, name: str | None, arn: str) -> str:
        """Point an alias to a key; a new one where *name* is none, moved where it is there. Return its name."""
        kms, name = self.client(), name or f"alias/test-{uuid4().hex[:12]}"
        there = {alias["AliasName"] for alias in kms.list_aliases()["Aliases"]}
        point = kms.update_alias if name in there else kms.create_alias
        point(AliasName=name, TargetKeyId=arn)
        return name

    def principal(
        self,
        policy: Mapping[str, Any] | str,
        *,
        kind: Literal["user", "role"] = "user",
        name: str | None = None,
    ) -> Credentials:
        """Make a user with an access key, or a role and assume it, with *policy* as the one identity policy."""
        iam, name = self.client("iam"), name or f"{kind}-{uuid4().hex[:12]}"
        if kind == "user":
            arn = iam.create_user(UserName=name)["User"]["Arn"]
            iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=_text(policy))
            made = iam.create_access_key(UserName=name)["AccessKey"]
            return Credentials(
                arn=arn, access_key=made["AccessKeyId"], secret_key=made["SecretAccessKey"]
            )
        trust = statement("sts:AssumeRole", Principal={"AWS": f"arn:aws:iam::{self.account}:root"})
        if self.name == "moto":  # it compares with the caller's own ARN only
            trust = statement("sts:AssumeRole", Principal={"AWS": self.admin.arn})
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=_text(trust))["Role"]["Arn"]
        iam.put_role_policy(RoleName=name, PolicyName="only", PolicyDocument=_text(policy))
        return self.assume(arn)

    def assume(self, role: str, *, seconds: int = 3600) -> Credentials:
        """Assume *role*, by its ARN, for *seconds*."""
        made = self.client("sts").assume_role(
            RoleArn=role, RoleSessionName="tests", DurationSeconds=seconds
        )
        given = made["Credentials"]
        return Credentials(
            arn=made["AssumedRoleUser"]["Arn"], access_key=given["AccessKeyId"],
            secret_key=given["SecretAccessKey"], token=given["SessionToken"],
        )  # fmt: skip

    def allowed(self, actions: list[str], *keys: str, **more: Any) -> dict[str, Any]:
        """Return an identity policy that allows *actions* on *keys*: ``allowed(["kms:Decrypt"], arn)``."""
        return statement(*actions, Resource=list(keys), **more)

    # What was asked.

    def requests(
        self, key: str = "", *, service: str = "kms", since: int = 0
    ) -> list[dict[str, Any]]:
        """
        Return each request the emulator answered, refused ones too, that names *key*.

        An entry has `time`, `operation`, `region`, `access_key`, `status`, `error` where it was refused, and of what
        the request named: `KeyId`, `EncryptionContext`.

        Args:
            since: what `mark` returned, to leave out what was before.
        """
        with self.record.open("rb") as lines:
            lines.seek(since)
            entries = [json.loads(line) for line in lines]
        return [
            entry
            for entry in entries
            if entry["service"] == service and (not key or key in _keys(entry))
        ]

    def calls(
        self, key: str = "", *, service: str = "kms", since: int = 0
    ) -> Counter[tuple[str, str]]:
        """Count `requests` by operation and key: ``{("Decrypt", arn): 1}``."""
        return Counter(
            (entry["operation"], (_keys(entry) or [""])[0])
            for entry in self.requests(key, service=service, since=since)
        )

    def mark(self) -> int:
        """Return where the record ends now."""
        return self.record.stat().st_size


def statement(*actions: str, effect: str = "Allow", **more: Any) -> dict[str, Any]:
    """Return a policy of one statement."""
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": effect, "Action": list(actions), **more}],
    }


@contextmanager
def moto_server() -> Iterator[AWS]:
    """Start moto, with an administrator and identity policies enforced; end it with the block."""
    if find_spec("moto") is None or find_spec("flask") is None or find_spec("boto3") is None:
        pytest.fail(
            "the tests need moto, and there is none: pip install moto flask flask-cors boto3"
        )
    with _directory("moto") as directory:
        port = free_port()
        endpoint, log = f"http://127.0.0.1:{port}", directory / "log"
        process = started(
            [sys.executable, _HERE / "launch_moto.py", str(port), directory / "requests.json"],
            log=log, MOTO_PORT=str(port), AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none",
        )  # fmt: skip
        try:
            wait_until(lambda: _answers(f"{endpoint}/moto-api/data.json"), process, "moto", log)
            nobody = Credentials(arn="", access_key="none", secret_key="none")
            server = AWS(name="moto", directory=directory, endpoint=endpoint, admin=nobody)
            everything = statement("*", Resource="*")
            server = replace(server, admin=server.principal(everything, name="admin"))
            # From now on everybody is asked who they are.
            enforce = urllib.request.Request(
                f"{endpoint}/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"}
            )
            urllib.request.urlopen(enforce).close()
            yield server
        finally:
            ended(process)


@contextmanager
def ministack_server() -> Iterator[AWS]:
    """Start ministack, as root of the account; end it with the block."""
    # Its environment lies beside the one that runs the tests.
    python = Path(sys.prefix).parent / ".venv-ministack" / "bin" / "python"
    if not python.exists():
        pytest.fail("the tests need ministack, and there is none: make .venv-ministack/.stamp")
    with _directory("ministack") as directory:
        port = free_port()
        endpoint, log = f"http://127.0.0.1:{port}", directory / "log"
        root = Credentials(
            arn=f"arn:aws:iam::{ACCOUNT}:root", access_key="AKIATESTSROOT0000000", secret_key="root"
        )
        process = started(
            [python, _HERE / "launch_ministack.py", directory / "requests.json"],
            log=log, **root.environ(),
            BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port), AUTH="true", CLOUDTRAIL_RECORDING="1",
            MINISTACK_ACCOUNT_ID=ACCOUNT, MINISTACK_REGION=REGION, STATE_DIR=str(directory / "state"),
            S3_DATA_DIR=str(directory / "s3"), TMPDIR=str(directory), LOG_LEVEL="WARNING",
            IOT_MTLS_ENABLED="0", SFTP_ENABLED="0",
        )  # fmt: skip
        try:
            wait_until(lambda: _answers(f"{endpoint}/_ministack/health"), process, "ministack", log)
            yield AWS(name="ministack", directory=directory, endpoint=endpoint, admin=root)
        finally:
            ended(process)


@contextmanager
def _directory(name: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=f"lacre-{name}-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _text(policy: Mapping[str, Any] | str) -> str:
    return policy if isinstance(policy, str) else json.dumps(policy)


def _keys(entry: dict[str, Any]) -> list[str]:
    names = ("KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId")
    return [entry[name] for name in names if name in entry]
