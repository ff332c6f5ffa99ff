# SPDX-License-Identifier: Apache-2.0
"""
The rig of OpenBao: a real server, with a Transit mount and a role for each credential, of the test's own.

The policies are the least that each credential needs, by path. What `lacre policy render` prints is
tested where that is tested.
"""

import base64
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from lacre.kms.calling import CallLimits
from lacre.kms.opening import open_key_services
from tests.components.faults import Alter, Answer, FaultProxy, fault_proxy, openbao_error
from tests.components.openbao import OpenBao
from tests.kms.contract.rig import OPERATIONS, PATIENT, Credential, Service, policy
from tests.kms.local.keystore import KEYSTORE, Memory

__all__ = ["OpenBaoRig"]

# Keys are called fields-... and index-..., so that a path can end in what they are for.
_POLICIES: Mapping[Credential, tuple[tuple[str, str], ...]] = {
    Credential.MINTS: (("datakey/wrapped/*", "update"),),
    Credential.RUNS: (("decrypt/*", "update"),),
    Credential.SEARCHES: (("decrypt/index-*", "update"),),
    Credential.MOVES: (
        ("encrypt/*", "update"),
        ("decrypt/*", "update"),
        ("rewrap/*", "update"),
        ("keys/*", "read"),
    ),
    Credential.ADMINISTERS: (("keys/*", "read"), ("keys/+/rotate", "update")),
    Credential.NOBODY: (),
}


class OpenBaoRig:
    """A Transit mount of a real server."""

    name: ClassVar[str] = "openbao"
    family: ClassVar[str] = "openbao"
    minting: ClassVar[str] = "/datakey/wrapped/"
    unwrapping: ClassVar[str] = "/decrypt/"

    def __init__(self, server: OpenBao, directory: Path) -> None:
        self.server = server
        self.mount = server.transit()
        self.directory = directory
        self._secrets: list[str] = []
        self._roles: dict[Credential, tuple[str, str]] = {}

    def kms_key(self, use: str = "fields") -> str:
        name = self.server.key(self.mount, f"{use}-{uuid4().hex[:12]}")
        return f"openbao://{self.mount}/{name}"

    def missing(self) -> str:
        return f"openbao://{self.mount}/fields-nothing"

    def open(
        self,
        who: Credential,
        *,
        limits: CallLimits = PATIENT,
        through: FaultProxy | None = None,
        **settings: Any,
    ) -> Service:
        role_id, secret_id = self.role(who)
        secret_file = self.directory / f"secret-id-{who}"
        secret_file.write_text(secret_id + "\n")
        secret_file.chmod(0o600)
        table = {
            "address": through.address if through else self.server.address,
            "ca_file": str(self.server.ca_file),
            "role_id": role_id,
            "secret_id_file": str(secret_file),
        }
        return self.opened({**table, **settings}, limits)

    def opened(self, table: Mapping[str, Any], limits: CallLimits = PATIENT) -> Service:
        """Open the service as the table `[openbao]` of a policy says."""
        file = policy(
            openbao=table,
            calls={"deadline": limits.deadline, "attempt": limits.attempt},
            classes={"pii": {"fields": f"openbao://{self.mount}/fields-pii"}},
        )
        services = open_key_services(
            file, base=self.directory, identity=None, signers=(), memory=Memory(),
            keystore_id=KEYSTORE, environ={},
        )  # fmt: skip
        service: Any = services["openbao"]
        return service  # type: ignore[no-any-return]

    def role(self, who: Credential, **settings: Any) -> tuple[str, str]:
        """Return the role id and secret id of *who*; with *settings*, of a role of its own."""
        if who in self._roles and not settings:
            return self._roles[who]
        made = self.server.approle([self.policy(who)], **settings)
        self._secrets.append(made[1])
        if not settings:
            self._roles[who] = made
        return made

    def policy(self, who: Credential) -> str:
        """Write the policy of *who*; return its name."""
        paths = [(f"{self.mount}/{path}", capability) for path, capability in _POLICIES[who]]
        own = [("auth/token/lookup-self", "read"), ("auth/token/renew-self", "update")]
        return self.server.policy(
            None,
            "\n".join(f'path "{path}" {{ capabilities = ["{may}"] }}' for path, may in paths + own),
        )

    def may(self, who: Credential, use: str) -> frozenset[str]:
        may = {
            Credential.MINTS: {"mint"},
            Credential.RUNS: {"unwrap"},
            Credential.SEARCHES: {"unwrap"} if use == "index" else set(),
            Credential.MOVES: {"wrap", "unwrap", "rewrap", "status"},
            Credential.ADMINISTERS: {"status"},
            Credential.NOBODY: set(),
        }[who]
        assert may <= set(OPERATIONS)
        return frozenset(may)

    def asked(self) -> int:
        return len(self.server.requests(f"{self.mount}/"))

    def rotate(self, kms_key: str) -> int | None:
        return self.open(Credential.ADMINISTERS).rotate(kms_key)

    def disable(self, kms_key: str) -> None:
        self.server.disable(self.mount, _name(kms_key))

    def enable(self, kms_key: str) -> None:
        self.server.enable(self.mount, _name(kms_key))

    def retire(self, kms_key: str) -> None:
        newest = self.version(kms_key)
        self.configure(kms_key, min_decryption_version=newest, min_encryption_version=newest)
        self._post(f"{_name(kms_key)}/trim", min_available_version=newest)

    def destroy(self, kms_key: str) -> None:
        self.configure(kms_key, deletion_allowed=True)
        self.server.client().secrets.transit.delete_key(_name(kms_key), mount_point=self.mount)

    def configure(self, kms_key: str, **settings: Any) -> None:
        """Change the settings of a KMS key, as an administrator with every right."""
        self._post(f"{_name(kms_key)}/config", **settings)

    def version(self, kms_key: str) -> int:
        """Return the newest version of a KMS key."""
        read = self.server.client().secrets.transit.read_key(_name(kms_key), mount_point=self.mount)
        return int(read["data"]["latest_version"])

    def withdrawable(self, who: Credential) -> tuple[Service, Callable[[], None]]:
        # A secret id for one log-in: where its token ends, there is no other.
        role_id, secret_id = self.role(who, secret_id_num_uses=1)
        secret_file = self.directory / "secret-id-once"
        secret_file.write_text(secret_id)
        secret_file.chmod(0o600)
        table = {"role_id": role_id, "secret_id_file": str(secret_file)}
        return self.open(who, **table), self.end_tokens

    def end_tokens(self) -> None:
        """Revoke every token that a role logged in for."""
        self.server.client().sys.revoke_prefix("auth/approle/login/")

    def proxy(self) -> AbstractContextManager[FaultProxy]:
        return fault_proxy(self.server.address, self.server.authority)

    def later(self) -> Answer:
        return openbao_error(429, "request path rate limited")

    def error(self, status: int, text: str) -> Answer:
        return openbao_error(status, text)

    def opened_as(self, key: bytes) -> Alter:
        plaintext = base64.b64encode(key).decode()
        return Alter(change=lambda answer: {**answer, "data": {"plaintext": plaintext}})

    def secrets(self) -> list[str]:
        return list(self._secrets)

    def _post(self, path: str, **body: Any) -> None:
        self.server.client().adapter.post(f"/v1/{self.mount}/keys/{path}", json=body)


def _name(kms_key: str) -> str:
    return kms_key.rpartition("/")[2]
