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

    def __init__(self, file: Path) -> None:
        self.file = file

    def name(self, credentials: Credentials) -> str:
        """Return the name of the profile for *credentials*."""
        return f"p{abs(hash(credentials))}"

    def write(self, credentials: Credentials) -> None:
        """Add a profile for *credentials*."""
        lines = [
            f"[{self.name(credentials)}]",
            f"aws_access_key_id = {credentials.access_key}",
            f"aws_secret_access_key = {credentials.secret_key}",
            *([f"aws_session_token = {credentials.token}"] if credentials.token else []),
        ]
        if lines[0] not in self.file.read_text():
            with self.file.open("a") as file:
                file.write("\n".join(lines) + "\n")


Serve = Callable[..., AwsKeyService]


@pytest.fixture(scope="session")
def _credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("aws") / "credentials"
    file.touch()
    return file


@pytest.fixture
def chain(_credentials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """The credential chain, empty: nothing of this machine's own AWS is in it."""
    for name in _AWS:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    chain = Chain(_credentials)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(chain.file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return chain


@pytest.fixture(scope="session")
def _clients() -> dict[object, AwsClients]:
    # Clients are made once for each principal: that is what takes the time. Breakers are a service's.
    return {}


@pytest.fixture
def serve(chain: Chain, _clients: dict[object, AwsClients]) -> Serve:
    """Makes a service: ``serve(moto)`` for its administrator, ``serve(moto, credentials, fips=True)``."""

    def served(
        aws: AWS,
        who: Credentials | None = None,
        *,
        limits: CallLimits = PATIENT,
        endpoints: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> AwsKeyService:
        who = who or aws.admin
        given = AwsSettings.model_validate({
            "regions": (REGION, REPLICA_REGION), "endpoint_url": aws.endpoint,
            "profile": chain.name(who), "allow_static_keys": True, **settings,
        })  # fmt: skip
        wanted = (who, repr(given), repr(endpoints))
        if wanted not in _clients:
            chain.write(who)
            _clients[wanted] = AwsClients(given, endpoints=endpoints)
        clients = _clients[wanted]
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
