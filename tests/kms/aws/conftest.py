# SPDX-License-Identifier: Apache-2.0
"""AWS as lacre sees it: a credential chain of the tests' own, and services for any principal."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lacre.kms.aws import AwsKeyService
from lacre.kms.aws.clients import AwsClients
from lacre.kms.calling import CallLimits
from lacre.policy.model import AwsSettings
from tests.components.aws import AWS, REGION, REPLICA_REGION, Credentials
from tests.components.faults import FaultProxy, fault_proxy

PATIENT = CallLimits(deadline=20.0, attempt=10.0)
_AWS = (
    "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE", "CA_BUNDLE",
    "ENDPOINT_URL", "ENDPOINT_URL_KMS", "USE_FIPS_ENDPOINT", "REGION", "DEFAULT_REGION", "ROLE_ARN",
    "WEB_IDENTITY_TOKEN_FILE", "CONTAINER_CREDENTIALS_FULL_URI", "CONTAINER_CREDENTIALS_RELATIVE_URI",
)  # fmt: skip


class Chain:
    """The default chain's files: a profile for each principal."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "credentials"
        self.file.touch()

    def profile(self, credentials: Credentials) -> str:
        """Write a profile for *credentials*; return its name."""
        name = f"p{len(self.file.read_text().splitlines())}"
        lines = [
            f"[{name}]",
            f"aws_access_key_id = {credentials.access_key}",
            f"aws_secret_access_key = {credentials.secret_key}",
            *([f"aws_session_token = {credentials.token}"] if credentials.token else []),
        ]
        with self.file.open("a") as file:
            file.write("\n".join(lines) + "\n")
        return name


Serve = Callable[..., AwsKeyService]


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The credential chain, empty: nothing of this machine's own AWS is in it."""
    for name in _AWS:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    chain = Chain(tmp_path)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(chain.file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return chain


@pytest.fixture
def serve(chain: Chain) -> Serve:
    """Makes a service: ``serve(moto)`` for its administrator, ``serve(moto, credentials, fips=True)``."""

    def served(
        aws: AWS,
        who: Credentials | None = None,
        *,
        limits: CallLimits = PATIENT,
        endpoints: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> AwsKeyService:
        given = AwsSettings.model_validate({
            "regions": (REGION, REPLICA_REGION), "endpoint_url": aws.endpoint,
            "profile": chain.profile(who or aws.admin), "allow_static_keys": True, **settings,
        })  # fmt: skip
        clients = AwsClients(given, endpoints=endpoints)
        return AwsKeyService(given, clients=clients, limits=limits)

    return served


@pytest.fixture(params=["moto", "ministack"])
def aws(request: pytest.FixtureRequest) -> AWS:
    """Each emulator."""
    emulator: AWS = request.getfixturevalue(request.param)
    return emulator


@pytest.fixture(scope="session")
def _proxy(moto: AWS) -> Iterator[FaultProxy]:
    with fault_proxy(moto.endpoint) as running:
        yield running


@pytest.fixture
def before_moto(_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """A proxy before moto that passes everything on, until the test says otherwise."""
    _proxy.forget()
    yield _proxy
    _proxy.clear()
