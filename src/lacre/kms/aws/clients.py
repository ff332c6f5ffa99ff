# SPDX-License-Identifier: Apache-2.0
"""
Clients of boto3: one for each region, with credentials of the default chain, for this process only.

Long-lived credentials are refused where a request is about to leave, so that the check holds for
whatever the chain refreshed in between. Endpoints come from the settings alone: `AWS_ENDPOINT_URL`,
`AWS_ENDPOINT_URL_KMS` and the shared configuration file cannot send requests elsewhere, and neither
can rules of endpoints that botocore finds on this machine: each request is looked at as it leaves.
Proxies and `AWS_CA_BUNDLE` of the environment are honoured. Retries nothing: `lacre.kms.calling` does.

Safe between threads, and after fork: a child makes clients of its own.
"""

import os
import threading
import weakref
from collections.abc import Mapping
from functools import partial
from typing import Any, Never, final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

from lacre.errors import ConfigurationError, MisuseError
from lacre.kms.aws.names import aws_region_of
from lacre.policy.model import AwsSettings

__all__ = ["AwsClients"]

_POOL = 64  # connections of a client: `[calls] concurrent` is at most that many


@final
class AwsClients:
    """
    The clients of one process.

    Args:
        attempt: seconds that a request for credentials, to STS for one, may take to connect, and to
            be answered.
        endpoints: of a region, where it has an endpoint of its own.
    """

    def __init__(
        self,
        settings: AwsSettings,
        *,
        attempt: float = 1.0,
        endpoints: Mapping[str, str] | None = None,
    ) -> None:
        self._settings = settings
        self._attempt = attempt
        self._endpoints = dict(endpoints or {})
        self._partitions: dict[str, str] = {}
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        # Sockets would be shared with the parent, and a lock may be held by a thread that is not
        # there: sessions have locks of their own, so the child begins with a new one.
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._core: Any = None  # botocore's session, in boto3's
        self._session: Any = None
        self._clients: dict[tuple[str, str, float], Any] = {}

    def client(self, service: str, region: str, *, attempt: float) -> Any:
        """
        Return the client of *service*, `kms` or `cloudtrail`, whose calls take *attempt* seconds.

        Raises:
            ConfigurationError: there are no credentials.
            BotoCoreError: what boto3 says against its own configuration.
        """
        if region not in self._settings.regions:
            raise ConfigurationError(
                f"[aws] regions does not allow {region}",
                hint="allow the region, or name a key in an allowed one",
            )
        wanted = (service, region, attempt)
        client = self._clients.get(wanted)
        if client is None:
            with self._lock:  # making one is not safe between threads, using it is
                client = self._clients.get(wanted) or self._made(service, region, attempt)
                self._clients[wanted] = client
        return client

    def partition(self, region: str) -> str:
        """Return the partition of *region*, the second part of an ARN."""
        if region not in self._partitions:
            with self._lock:
                self._partitions[region] = self._opened().get_partition_for_region(region)
        return self._partitions[region]

    def __repr__(self) -> str:
        return f"<AwsClients of {', '.join(self._settings.regions)}>"

    def __reduce__(self) -> Never:
        raise MisuseError("clients of AWS hold credentials; they do not pickle or copy")

    def _opened(self) -> Any:
        if self._session is None:
            core = self._core = botocore.session.Session(profile=self._settings.profile)
            # Of the clients that providers of credentials make: theirs would wait for minutes, and
            # a call that needs new credentials with them.
            core.set_default_client_config(
                Config(
                    retries={"mode": "standard", "total_max_attempts": 1},
                    connect_timeout=self._attempt,
                    read_timeout=self._attempt,
                )
            )
            self._session = boto3.Session(botocore_session=core)
        return self._session

    def _made(self, service: str, region: str, attempt: float) -> Any:
        session = self._opened()
        # Asked before the client keeps them: their provider may have been away for a moment only.
        if session.get_credentials() is None:
            raise ConfigurationError(
                "there are no AWS credentials",
                hint="give the process a role (instance, task, pod or Lambda), or log in with `aws sso login`",
            )
        endpoint = self._endpoints.get(region, self._settings.endpoint_url)
        if endpoint is not None and service != "kms" and aws_region_of(endpoint) is not None:
            # AWS has a host for each service; an emulator or a gateway has one for all.
            endpoint = None
        if endpoint is not None and self._core.get_config_variable("use_fips_endpoint"):
            # botocore would drop the wish without a word.
            raise ConfigurationError(
                "the environment asks for FIPS endpoints, and [aws] has an endpoint_url",
                hint="leave endpoint_url out, or AWS_USE_FIPS_ENDPOINT",
            )
        config = Config(
            retries={"mode": "standard", "total_max_attempts": 1},
            # Both together are one attempt: a connection is refused, or made, quickly.
            connect_timeout=attempt / 3,
            read_timeout=attempt * 2 / 3,
            max_pool_connections=_POOL,
            user_agent_extra="lacre",
            ignore_configured_endpoint_urls=True,
            # None: the environment may still ask for FIPS.
            use_fips_endpoint=True if self._settings.fips else None,
            # Plain http is on this machine only, and keys are in the answers: no proxy sees them.
            **({"proxies": {}} if endpoint and endpoint.startswith("http://") else {}),
        )
        client = session.client(service, region_name=region, endpoint_url=endpoint, config=config)
        stays = partial(_refuse_elsewhere, region=region, endpoint=endpoint)
        client.meta.events.register(f"before-send.{service}", stays)
        if not self._settings.allow_static_keys:
            client.meta.events.register(f"before-send.{service}", _refuse_long_lived)
        return client


def _refuse_elsewhere(request: Any, *, region: str, endpoint: str | None, **_: object) -> None:
    # botocore reads its rules of endpoints from AWS_DATA_PATH and ~/.aws/models first, and could be
    # told any host there. What is about to leave is looked at, whoever chose where it goes.
    if endpoint is None:
        stays = request.url.startswith("https://") and aws_region_of(request.url) == region
    else:
        stays = _origin(request.url) == _origin(endpoint)
    if not stays:
        raise ConfigurationError(
            f"boto3 would send a request for {region} elsewhere than [aws] allows",
            hint="look at AWS_DATA_PATH and ~/.aws/models: they change the endpoints that boto3 knows",
        )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _refuse_long_lived(request: Any, **_: object) -> None:
    # Temporary credentials have a session token, and it goes with every request they sign.
    if "X-Amz-Security-Token" not in request.headers:
        raise ConfigurationError(
            "the AWS credentials are long-lived: an access key without a session token",
            hint="give the process a role; or say [aws] allow_static_keys = true",
        )
