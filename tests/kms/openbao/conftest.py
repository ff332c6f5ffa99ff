# SPDX-License-Identifier: Apache-2.0
"""A Transit engine of a test's own on the real server, and services that use it with some credential."""

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from lacre.kms.calling import CallLimits
from lacre.kms.openbao import OpenBaoKeyService
from lacre.policy.model import OpenBaoSettings
from tests.components.faults import FaultProxy, fault_proxy
from tests.components.openbao import OpenBao

__all__ = ["Engine", "bound"]


def bound(*, row: str = "one", **pairs: str) -> dict[str, str]:
    """Return a wrap context of eight pairs; *row* stands for the columns whose digest is in it."""
    digest = urlsafe_b64encode(sha256(row.encode()).digest()).rstrip(b"=").decode()
    return {
        "app": "shop", "class": "pii", "env": "test", "kind": "branch", "service": "customers",
        "tenant": "acme", "lacre-key": "00" * 16, "lacre-row": digest,
    } | pairs  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A Transit engine with the keys `pii` and `other`."""

    server: OpenBao
    directory: Path
    mount: str
    namespace: str | None = None
    limits: CallLimits = field(default_factory=CallLimits)

    @property
    def pii(self) -> str:
        return f"openbao://{self.mount}/pii"

    @property
    def other(self) -> str:
        return f"openbao://{self.mount}/other"

    def service(
        self,
        token: str | None = None,
        *,
        address: str | None = None,
        limits: CallLimits | None = None,
        **settings: str,
    ) -> OpenBaoKeyService:
        """Return a service with *token*, root's where none is given, or with other *settings*."""
        chosen = {"auth": "token", **settings}
        if self.namespace is not None:
            chosen.setdefault("namespace", self.namespace)
        return OpenBaoKeyService.open(
            OpenBaoSettings.model_validate(
                {"address": address or self.server.address, "ca_file": str(self.server.ca_file)}
                | chosen
            ),
            limits=limits or self.limits,
            base=self.directory,
            environ={"BAO_TOKEN": token or self.server.root_token},
        )

    def allowed(self, rules: Mapping[str, str], **settings: str) -> str:
        """Return a token that may do what *rules* say: a path below the mount, to the rest of the rule."""
        return self.server.token([self.policy(rules)], namespace=self.namespace, **settings)

    def policy(self, rules: Mapping[str, str]) -> str:
        """Write the policy of `allowed`; return its name."""
        text = "\n".join(
            f'path "{path if path.startswith("auth/") else f"{self.mount}/{path}"}" {{ {rule} }}'
            for path, rule in rules.items()
        )
        return self.server.policy(None, text, namespace=self.namespace)

    def secret_file(self, name: str, secret: str) -> str:
        """Write a file as private as a secret's has to be; return its name below the directory."""
        path = self.directory / name
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secret + "\n")
        return name


@pytest.fixture
def engine(openbao: OpenBao, tmp_path: Path) -> Engine:
    """A Transit engine with the keys `pii` and `other`."""
    directory = tmp_path / "secrets"
    directory.mkdir(mode=0o700)
    mount = openbao.transit()
    for name in ("pii", "other"):
        openbao.key(mount, name)
    return Engine(server=openbao, directory=directory, mount=mount)


@pytest.fixture
def proxy(openbao: OpenBao) -> Iterator[FaultProxy]:
    """A proxy before the server, that does what it is told."""
    with fault_proxy(openbao.address, openbao.authority) as proxy:
        yield proxy
