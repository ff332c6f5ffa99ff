# SPDX-License-Identifier: Apache-2.0
"""
The script that `lacre policy render` prints, run with the real `bao`; then who may do what.

Each of the five credentials is tried on every operation of the real server, also on those that no
policy speaks of, and with every way known to say one context and use another.
"""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lacre.errors import ConfigurationError, KeyServiceDenied
from lacre.keys.transit_context import transit_context
from lacre.policy.decisions import Policy
from lacre.policy.loading import parse_policy
from lacre.policy.rendering import Credential, OpenBaoRendering, render_openbao
from lacre.sensitive import KeyMaterial
from tests.components.openbao import OpenBao, program
from tests.kms.openbao.conftest import Engine, bound

_TOML = """\
app = "shop"
env = "test"
service = "customers"
kms_keys = "openbao://{mount}/{{class}}-{{use}}"
key_store = {{ url = "sqlite:///keys.db" }}
local = {{ signers = ["lacre-public-1 operator"] }}
openbao = {{ address = "{address}", auth = "token"{more} }}
classes.pii = {{ rotate_after = "90 days" }}
classes.banking = {{ index = false, rotate_after = "never" }}
audit = {{ path = "evidence.jsonl" }}
sealing = {{ kms_key = "openbao://{mount}/epochs", classes = ["pii"] }}
{move}
"""

FIELDS = {"kind": "branch"}
INDEX = {"kind": "index"}
_EPOCH = {"kind": "seal", "tenant": "-", "class": "-"}


def rendered(
    address: str, mount: str, *, tenant: str | None = None, more: str = "", move: str = ""
) -> OpenBaoRendering:
    """Return what a policy file with its keys at *mount* is rendered to."""
    text = _TOML.format(mount=mount, address=address, more=more, move=move)
    return render_openbao(Policy(parse_policy(text, {})), tenant=tenant)


def run(server: OpenBao, script: str) -> "subprocess.CompletedProcess[str]":
    """Run *script* with `bao` on the PATH and root's token."""
    return subprocess.run(
        ["/bin/sh"],
        input=script,
        env={
            "PATH": f"{program().parent}{os.pathsep}{os.environ['PATH']}",
            "BAO_TOKEN": server.root_token,
            "BAO_CACERT": str(server.ca_file),
            "HOME": str(server.directory),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A server on which a script was run, with a token for each credential."""

    server: OpenBao
    mount: str
    tokens: Mapping[Credential, str]
    rendering: OpenBaoRendering
    namespace: str | None = None

    def status(
        self, who: Credential, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> int:
        """Return what the server answers to *who*."""
        return requests.request(
            method,
            f"{self.server.address}/v1/{path}",
            headers={"X-Vault-Token": self.tokens[who], "X-Vault-Namespace": self.namespace or ""},
            json=body,
            verify=str(self.server.ca_file),
            timeout=30,
        ).status_code

    def wrapped(self, key: str, **pairs: str) -> str:
        """Return a key that root wrapped."""
        client = self.server.client(namespace=self.namespace)
        made = client.secrets.transit.generate_data_key(
            key, "wrapped", context=transit_context(bound(**pairs)), mount_point=self.mount
        )
        return str(made["data"]["ciphertext"])


def made(server: OpenBao, rendering: OpenBaoRendering, mount: str) -> Made:
    """Run the script of *rendering*, and give each of its policies a token."""
    done = run(server, rendering.script())
    assert (done.returncode, done.stderr) == (0, "")
    inside = rendering.namespace
    tokens = {who: server.token([name], namespace=inside) for who, name in rendering.names.items()}
    return Made(server=server, mount=mount, tokens=tokens, rendering=rendering, namespace=inside)


@pytest.fixture(scope="module")
def at(openbao: OpenBao) -> Made:
    """The rendering for every tenant."""
    mount = "lacre/transit-matrix"
    return made(openbao, rendered(openbao.address, mount), mount)


@pytest.fixture(scope="module")
def pinned(openbao: OpenBao) -> Made:
    """The rendering for the tenant `acme`, in a namespace."""
    more = f', namespace = "{openbao.namespace()}"'
    return made(openbao, rendered(openbao.address, "transit", tenant="acme", more=more), "transit")


def test_the_script_makes_what_it_says(at: Made) -> None:
    """The keys are derived, cannot leave the server or be deleted, and rotate as the classes say."""
    transit = at.server.client().secrets.transit
    found = {
        name: transit.read_key(name, mount_point=at.mount)["data"]
        for name in transit.list_keys(mount_point=at.mount)["data"]["keys"]
    }

    assert set(found) == {"banking-fields", "epochs", "pii-fields", "pii-index"}
    assert found["epochs"]["auto_rotate_period"] == 0
    for key in found.values():
        assert (key["type"], key["derived"]) == ("aes256-gcm96", True)
        assert (key["exportable"], key["allow_plaintext_backup"], key["deletion_allowed"]) == (
            False, False, False,
        )  # fmt: skip
    assert found["pii-fields"]["auto_rotate_period"] == 90 * 86400
    assert found["banking-fields"]["auto_rotate_period"] == 365 * 86400


def test_the_script_may_be_run_again(at: Made) -> None:
    """A second run changes nothing and ends well."""
    since = at.server.mark()
    again = run(at.server, at.rendering.script())
    rotated = [path for _, path in at.server.calls(at.mount, since=since) if "rotate" in path]

    assert (again.returncode, again.stderr) == (0, "")
    assert rotated == []


def test_the_script_stops_at_what_is_wrong(openbao: OpenBao) -> None:
    """Where a key of the name is not derived, or the mount is no Transit engine, the script fails."""
    mount = openbao.transit()
    openbao.key(mount, "pii-fields", derived=False)
    openbao.client().sys.enable_secrets_engine("kv", path=f"kv-{mount}")
    unfit = run(openbao, rendered(openbao.address, mount).script())
    no_engine = run(openbao, rendered(openbao.address, f"kv-{mount}").script())

    assert unfit.returncode != 0
    assert "derived must be true" in unfit.stderr
    assert no_engine.returncode != 0
    assert "type must be transit" in no_engine.stderr


# Which credential may do what. Everything else is 403.
_MAY: dict[str, set[Credential]] = {
    "datakey/wrapped": {Credential.PROVISIONING},
    "decrypt fields": {Credential.RUNTIME},
    "decrypt index": {Credential.RUNTIME, Credential.SEARCH},
    "rewrap": {Credential.REWRAP},
    "read": {Credential.PROVISIONING, Credential.REWRAP, Credential.ADMINISTRATION},
    "config": {Credential.ADMINISTRATION},
    "rotate": {Credential.ADMINISTRATION},
    "trim": {Credential.ADMINISTRATION},
    "policies": {Credential.ADMINISTRATION},
    "datakey/wrapped of an epoch": {Credential.SEALING},
    "decrypt of an epoch": {Credential.RUNTIME, Credential.SEALING},
    "read of an epoch": {Credential.SEALING},
    "rotate of an epoch": {Credential.SEALING},
    "config of an epoch": {Credential.SEALING},
    "trim of an epoch": {Credential.SEALING},
    "lookup-self": set(Credential),
    "renew-self": set(Credential),
}


@pytest.mark.parametrize("who", Credential, ids=str)
def test_who_may_do_what(at: Made, who: Credential) -> None:
    """Each credential does what it is for, and every other operation of the engine is 403."""
    m, key = at.mount, "banking-fields"
    context = transit_context(bound(**{"class": "banking"}, **FIELDS))
    sealed = at.wrapped(key, **{"class": "banking"}, **FIELDS)
    epoch = transit_context(bound(**_EPOCH))
    of_index = {"context": transit_context(bound(**INDEX)), "ciphertext": at.wrapped("pii-index", **INDEX)}  # fmt: skip
    item, plain = {"context": context, "ciphertext": sealed}, b64encode(bytes(32)).decode()
    tried: dict[str, tuple[str, str, Mapping[str, Any] | None]] = {
        "datakey/wrapped": ("POST", f"{m}/datakey/wrapped/{key}", {"context": context, "bits": 256}),
        "decrypt fields": ("POST", f"{m}/decrypt/{key}", item),
        "decrypt index": ("POST", f"{m}/decrypt/pii-index", of_index),
        "rewrap": ("POST", f"{m}/rewrap/{key}", item),
        "read": ("GET", f"{m}/keys/{key}", None),
        "config": ("POST", f"{m}/keys/{key}/config", {"min_decryption_version": 1, "min_encryption_version": 1}),
        "rotate": ("POST", f"{m}/keys/pii-index/rotate", {}),
        "trim": ("POST", f"{m}/keys/{key}/trim", {"min_available_version": 1}),
        "policies": ("GET", "sys/policies/acl/default", None),
        "datakey/wrapped of an epoch": ("POST", f"{m}/datakey/wrapped/epochs", {"context": epoch, "bits": 256}),
        "decrypt of an epoch": ("POST", f"{m}/decrypt/epochs", {"context": epoch, "ciphertext": at.wrapped("epochs", **_EPOCH)}),
        "read of an epoch": ("GET", f"{m}/keys/epochs", None),
        "rotate of an epoch": ("POST", f"{m}/keys/epochs/rotate", {}),
        "config of an epoch": ("POST", f"{m}/keys/epochs/config", {"min_decryption_version": 1, "min_encryption_version": 1}),
        "trim of an epoch": ("POST", f"{m}/keys/epochs/trim", {"min_available_version": 1}),
        "lookup-self": ("GET", "auth/token/lookup-self", None),
        "renew-self": ("POST", "auth/token/renew-self", {}),
        # Nobody's.
        "datakey/wrapped of another kind": ("POST", f"{m}/datakey/wrapped/epochs", {"context": context, "bits": 256}),
        "encrypt of an epoch": ("POST", f"{m}/encrypt/epochs", {"context": epoch, "plaintext": plain}),
        "delete of an epoch": ("DELETE", f"{m}/keys/epochs", None),
        "datakey/plaintext": ("POST", f"{m}/datakey/plaintext/{key}", {"context": context, "bits": 256}),
        "encrypt": ("POST", f"{m}/encrypt/{key}", {"context": context, "plaintext": plain}),
        "encrypt anew": ("POST", f"{m}/encrypt/absent", {"context": context, "plaintext": plain}),
        "export": ("GET", f"{m}/export/encryption-key/{key}", None),
        "byok-export": ("GET", f"{m}/byok-export/{key}/{key}", None),
        "backup": ("GET", f"{m}/backup/{key}", None),
        "restore": ("POST", f"{m}/restore/{key}", {"backup": "AAAA"}),
        "delete": ("DELETE", f"{m}/keys/{key}", None),
        "soft-delete": ("DELETE", f"{m}/keys/{key}/soft-delete", None),
        "create": ("POST", f"{m}/keys/another", {"type": "aes256-gcm96"}),
        "import": ("POST", f"{m}/keys/another/import", {"ciphertext": "AAAA"}),
        "list": ("LIST", f"{m}/keys", None),
        "hmac": ("POST", f"{m}/hmac/{key}", {"input": plain}),
        "upsert": ("POST", f"{m}/config/keys", {"disable_upsert": False}),
        "cache": ("POST", f"{m}/cache-config", {"size": 0}),
        "mount": ("GET", f"sys/mounts/{m}", None),
        "policy": ("POST", "sys/policies/acl/mine", {"policy": ""}),
        "token": ("POST", "auth/token/create", {}),
        "seal": ("POST", "sys/seal", {}),
        "raft snapshot": ("GET", "sys/storage/raft/snapshot", None),
    }  # fmt: skip
    for setting in ("exportable", "allow_plaintext_backup", "deletion_allowed"):
        tried[setting] = ("POST", f"{m}/keys/{key}/config", {setting: True})
    answers = {name: at.status(who, *what) for name, what in tried.items()}
    may = {name for name, status in answers.items() if status != 403}

    assert may == {name for name, credentials in _MAY.items() if who in credentials}
    # No other class's key, although the context is right.
    assert {answers[name] for name in may} <= {200, 204}


@pytest.mark.parametrize(
    ("who", "operation"),
    [
        (Credential.PROVISIONING, "datakey/wrapped"),
        (Credential.RUNTIME, "decrypt"),
        (Credential.SEARCH, "decrypt"),
        (Credential.REWRAP, "rewrap"),
    ],
    ids=str,
)
def test_no_way_round_the_context(pinned: Made, who: Credential, operation: str) -> None:
    """Another tenant's, class's or application's context is 403, in a batch and in any other guise."""
    one, mount = pinned, pinned.mount
    key, kind = ("pii-index", INDEX) if who is Credential.SEARCH else ("pii-fields", FIELDS)
    path = f"{mount}/{operation}/{key}"

    def body(**pairs: str) -> dict[str, Any]:
        pairs = kind | pairs
        told: dict[str, Any] = {"context": transit_context(bound(**pairs))}
        if operation == "datakey/wrapped":
            return told | {"bits": 256}
        return told | {"ciphertext": one.wrapped(key, **pairs)}

    mine = body()
    others = [
        body(**{name: other})
        for name, other in (
            ("tenant", "other"), ("tenant", "acme2"), ("class", "banking"), ("app", "other"), ("env", "prod"),
            ("service", "other"), ("kind", "index" if kind is FIELDS else "branch"),
        )
    ]  # fmt: skip
    other = others[0]
    smuggled: list[dict[str, Any]] = [
        *others,
        {"batch_input": [other]},
        {"batch_input": [mine]},
        mine | {"batch_input": [other]},
        mine | {"Batch_Input": [other]},
        mine | {"BATCH_INPUT": [other]},
        {**other, "Context": mine["context"]},
        {**other, "context": [mine["context"]]},
        {**other, "context": [mine["context"], other["context"]]},
        {**other, "context": None},
        {**other, "context": mine["context"].swapcase()},
        {**other, "context": " " + mine["context"]},
        {**other, "context": "*"},
        mine | {"associated_data": "AAAA"},
        mine | {"nonce": "AAAA"},
        mine | {"key_version": 1},
    ]
    answers = [one.status(who, "POST", path, each) for each in smuggled]

    assert one.status(who, "POST", path, mine) == 200
    # 400 is no way round either: the engine has no context, or the wrong one.
    assert set(answers) <= {403, 400}
    assert answers[: len(others) + 5] == [403] * (len(others) + 5)
    # In the address, it is not looked at: the body's context counts.
    query = requests.Request("POST", "https://x", params={k: str(v) for k, v in other.items()})
    text = query.prepare().url or ""
    assert one.status(who, "POST", path + text.removeprefix("https://x/"), {}) in {400, 403}
    if operation != "datakey/wrapped":
        mixed = one.status(who, "POST", path, {**other, "context": mine["context"]})
        assert mixed == 400  # another tenant's blob in one's own context does not open


def test_the_service_works_with_these_credentials(at: Made, tmp_path: Path) -> None:
    """Minting, unwrapping, searching, wrapping anew and administering work, each with its own."""
    engine = Engine(server=at.server, directory=tmp_path, mount=at.mount)
    fields, index = f"openbao://{at.mount}/pii-fields", f"openbao://{at.mount}/pii-index"
    by = {who: engine.service(token) for who, token in at.tokens.items()}
    wrapped = by[Credential.PROVISIONING].mint(fields, bound(**FIELDS))
    root = by[Credential.PROVISIONING].mint(index, bound(**INDEX))
    key = by[Credential.RUNTIME].unwrap(fields, wrapped, bound(**FIELDS)).reveal()
    by[Credential.ADMINISTRATION].rotate(fields)
    moved = by[Credential.REWRAP].rewrap(
        fields, wrapped, bound(**FIELDS), to=fields, to_context=bound(**FIELDS)
    )
    by[Credential.ADMINISTRATION].destroy_before(fields, 2)
    status = by[Credential.ADMINISTRATION].status(fields)

    assert by[Credential.RUNTIME].unwrap(fields, moved, bound(**FIELDS)).reveal() == key
    assert by[Credential.SEARCH].unwrap(index, root, bound(**INDEX)).reveal() != key
    assert (status.usable, status.version, status.rotation) == (True, 2, "every 90 days")
    assert status.policy is not None
    with pytest.raises(KeyServiceDenied):
        by[Credential.SEARCH].unwrap(fields, moved, bound(**FIELDS))
    with pytest.raises(KeyServiceDenied):
        by[Credential.RUNTIME].mint(fields, bound(**FIELDS))
    with pytest.raises(KeyServiceDenied):
        by[Credential.REWRAP].unwrap(fields, moved, bound(**FIELDS))
    for credential in Credential:
        with pytest.raises(KeyServiceDenied):
            by[credential].wrap(fields, KeyMaterial(bytes(32)), bound(**FIELDS))


def test_a_move(openbao: OpenBao, tmp_path: Path) -> None:
    """In a move run time opens under old and new keys, and the mover takes from the old to the new only."""
    before, after = openbao.transit(), openbao.transit()
    for name in ("pii-fields", "pii-index", "banking-fields"):
        openbao.key(before, name)
    move = f'move = {{ from = "openbao://{before}/{{class}}-{{use}}", until = 2999-01-01 }}'
    rendering = rendered(openbao.address, after, move=move)
    one = made(openbao, rendering, after)
    engine = Engine(server=openbao, directory=tmp_path, mount=after)
    by = {who: engine.service(token) for who, token in one.tokens.items()}
    old, new = f"openbao://{before}/pii-fields", f"openbao://{after}/pii-fields"
    wrapped = engine.service().mint(old, bound(**FIELDS))
    moved = by[Credential.REWRAP].rewrap(
        old, wrapped, bound(**FIELDS), to=new, to_context=bound(row="moved", **FIELDS)
    )

    assert (
        by[Credential.RUNTIME].unwrap(old, wrapped, bound(**FIELDS)).reveal()
        == by[Credential.RUNTIME].unwrap(new, moved, bound(row="moved", **FIELDS)).reveal()
    )
    assert "rights of a move, until 2999-01-01" in rendering.script()
    with pytest.raises(KeyServiceDenied):
        by[Credential.PROVISIONING].mint(old, bound(**FIELDS))
    with pytest.raises(KeyServiceDenied):
        by[Credential.REWRAP].wrap(old, KeyMaterial(bytes(32)), bound(**FIELDS))
    with pytest.raises(KeyServiceDenied):
        by[Credential.REWRAP].unwrap(new, moved, bound(row="moved", **FIELDS))


def test_a_namespace(pinned: Made) -> None:
    """The script works in the namespace that the policy file names, and nowhere else."""
    inside = pinned.server.client(namespace=pinned.namespace)
    mounts = pinned.server.client().sys.list_mounted_secrets_engines()["data"]

    assert inside.secrets.transit.list_keys()["data"]["keys"] == [
        "banking-fields", "epochs", "pii-fields", "pii-index",
    ]  # fmt: skip
    assert "transit/" not in mounts


def test_a_move_that_is_over() -> None:
    """After its last day a move gives nobody a right: neither on the old keys, nor to wrap under the new."""
    move = 'move = { from = "openbao://before/{class}-{use}", until = 2020-01-01 }'
    rendering = rendered("https://bao:8200", "after", move=move)
    paths = {rule.path for rules in rendering.policies.values() for rule in rules}

    assert rendering.until is None
    assert not [path for path in paths if path.startswith("before/") or "/encrypt/" in path]


def test_nothing_of_the_policy_file_is_run(tmp_path: Path) -> None:
    """An address, a namespace and a tenant that look like shell are no part of the script's commands."""
    trap = f"$(touch {tmp_path}/trap)'`touch {tmp_path}/trap`\\\""
    more = f", namespace = {json.dumps(trap)}"
    script = rendered("https://$(false)", "transit", tenant=trap, more=more).script()
    stub = tmp_path / "bin"
    stub.mkdir()
    (stub / "bao").write_text('#!/bin/sh\ncat >/dev/null\ncase "$2" in -field=*) exit 1;; esac\n')
    (stub / "bao").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh"], input=script.replace("must_be ", ": "), text=True, check=False, timeout=60,
        env={"PATH": f"{stub}:{os.environ['PATH']}"}, capture_output=True,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "trap").exists()


def test_no_parameter_is_open() -> None:
    """Neither a star nor a batch is an allowed parameter, and every context is pinned."""
    for tenant in (None, "acme", "ação"):
        rendering = rendered("https://bao:8200", "transit", tenant=tenant)
        for rules in rendering.policies.values():
            for rule in rules:
                if rule.path.startswith("transit/") and "/keys/" not in rule.path:
                    assert rule.parameters is not None
                    assert all(len(prefix) > 40 for prefix in rule.parameters["context"])
                assert not {"*", "batch_input"} & set(rule.parameters or ())


def test_one_kms_key_for_both_uses() -> None:
    """Where one KMS key wraps both kinds of keys of a class, the search credential opens one kind only."""
    text = _TOML.format(mount="transit", address="https://bao:8200", more="", move="")
    text = text.replace("classes.pii = {", 'classes.pii = { fields = "openbao://transit/a/both", index = "openbao://transit/a/both",')  # fmt: skip
    rendering = render_openbao(Policy(parse_policy(text, {})))

    def contexts(who: Credential) -> set[str]:
        return {
            prefix
            for rule in rendering.policies[who]
            if rule.path == "transit/a/decrypt/both"
            for prefix in (rule.parameters or {})["context"]
        }

    assert len(contexts(Credential.RUNTIME)) == 2
    assert len(contexts(Credential.SEARCH)) == 1
    (prefix,) = contexts(Credential.SEARCH)
    assert transit_context(bound(kind="index")).startswith(prefix.rstrip("*"))
    assert not transit_context(bound(kind="branch")).startswith(prefix.rstrip("*"))


@pytest.mark.parametrize("tenant", ["", "x" * 256])
def test_nobody_can_be_such_a_tenant(tenant: str) -> None:
    """An empty variable of a shell is no tenant: policies pinned to nobody are not printed."""
    with pytest.raises(ConfigurationError, match="a tenant is a name"):
        rendered("https://bao:8200", "transit", tenant=tenant)


def test_names_of_policies() -> None:
    """No two applications, environments, services or tenants have a policy of the same name."""

    def names(tenant: str | None) -> set[str]:
        return set(rendered("https://bao:8200", "transit", tenant=tenant).names.values())

    found = [names(tenant) for tenant in (None, "acme", "Acme", "ação", "sha256-" + "0" * 16)]

    assert len(set().union(*found)) == 5 * len(Credential)


def test_nothing_to_render() -> None:
    """A policy file whose KMS keys are elsewhere is a configuration error."""
    text = _TOML.format(mount="x", address="https://bao:8200", more="", move="")
    text = text.replace("openbao://x/", "local://")
    text = text.replace("local = { ", 'local = { directory = "d", identity = "i", ')

    with pytest.raises(ConfigurationError, match="no KMS key"):
        render_openbao(Policy(parse_policy(text, {})))


def test_the_command(tmp_path: Path) -> None:
    """The command prints the script; with --json the same as data."""
    config = tmp_path / "lacre.toml"
    config.write_text(_TOML.format(mount="transit", address="https://bao:8200", more="", move=""))
    command = [sys.executable, "-c", "from lacre.cli import main; main()", "policy", "render",
               "--target", "openbao", "--tenant", "acme", "--config", str(config)]  # fmt: skip
    script, told = (
        subprocess.run(
            [*command, *more], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        for more in ([], ["--json"])
    )
    rendering = rendered("https://bao:8200", "transit", tenant="acme")

    assert script == rendering.script()
    assert json.loads(told) == json.loads(json.dumps(rendering.to_json()))
