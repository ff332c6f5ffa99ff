# SPDX-License-Identifier: Apache-2.0
"""The OpenBao server the tests run on is what they take it for."""

import socket
import ssl
import time
from base64 import b64encode

import hvac
import hvac.exceptions as refused
import pytest
import requests

from tests.components.openbao import OpenBao

TENANT = b64encode(b"acme").decode()
OTHER = b64encode(b"other").decode()


def minted(client: hvac.Client, mount: str, key: str) -> str:
    """Mint a data key under the context TENANT; return it, wrapped."""
    made = client.secrets.transit.generate_data_key(
        key, "wrapped", context=TENANT, mount_point=mount
    )
    return str(made["data"]["ciphertext"])


def test_tls_1_3_only(openbao: OpenBao) -> None:
    """The server speaks TLS 1.3 with a certificate of the tests' authority, and no TLS 1.2."""
    older = openbao.authority.trust()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", openbao.port)) as raw,
        openbao.authority.trust().wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        version = connection.version()

    assert version == "TLSv1.3"
    with (
        socket.create_connection(("127.0.0.1", openbao.port)) as raw,
        pytest.raises(ssl.SSLError),
    ):
        older.wrap_socket(raw, server_hostname="127.0.0.1")


def test_a_policy_names_the_key(openbao: OpenBao) -> None:
    """A token for the sales key gets 403 on the finance key, and none gets anything without a token."""
    mount = openbao.transit()
    openbao.key(mount, "sales")
    openbao.key(mount, "finance")
    policy = openbao.policy(
        None, f'path "{mount}/datakey/wrapped/sales" {{ capabilities = ["update"] }}'
    )
    sales = openbao.client(openbao.token([policy]))

    assert minted(sales, mount, "sales").startswith("vault:v1:")
    with pytest.raises(refused.Forbidden):
        minted(sales, mount, "finance")
    with pytest.raises(refused.Forbidden):
        minted(openbao.client(""), mount, "sales")


def test_a_context_is_needed_and_checked(openbao: OpenBao) -> None:
    """What was wrapped under one context opens under no other, and not without one."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    client = openbao.client()
    wrapped = minted(client, mount, key)
    opened = client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)

    assert len(opened["data"]["plaintext"]) == 44
    for context in (OTHER, None):
        with pytest.raises(refused.InvalidRequest):
            client.secrets.transit.decrypt_data(key, wrapped, context=context, mount_point=mount)


def test_a_key_cannot_be_exported(openbao: OpenBao) -> None:
    """Not even root exports a key made as the tests make them (400), nor backs it up (500)."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    transit = openbao.client().secrets.transit

    with pytest.raises(refused.InvalidRequest):
        transit.export_key(key, "encryption-key", mount_point=mount)
    with pytest.raises(refused.InternalServerError, match="disallowed"):
        transit.backup_key(key, mount_point=mount)


def test_a_key_is_disabled(openbao: OpenBao) -> None:
    """A key that was soft-deleted neither mints nor opens (400), and does again once it was restored."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    client = openbao.client()
    wrapped = minted(client, mount, key)
    openbao.disable(mount, key)
    with pytest.raises(refused.InvalidRequest, match="soft-deleted"):
        minted(client, mount, key)
    with pytest.raises(refused.InvalidRequest, match="soft-deleted"):
        client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)
    openbao.enable(mount, key)

    assert client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)


def test_an_old_version_opens_no_more(openbao: OpenBao) -> None:
    """Below `min_decryption_version` nothing opens (400); what was rewrapped before does."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    transit = openbao.client().secrets.transit
    old = minted(openbao.client(), mount, key)
    transit.rotate_key(key, mount_point=mount)
    new = transit.rewrap_data(key, old, context=TENANT, mount_point=mount)["data"]["ciphertext"]
    transit.update_key_configuration(key, min_decryption_version=2, mount_point=mount)

    assert (old[:9], new[:9]) == ("vault:v1:", "vault:v2:")
    assert transit.decrypt_data(key, new, context=TENANT, mount_point=mount)
    with pytest.raises(refused.InvalidRequest, match="too old"):
        transit.decrypt_data(key, old, context=TENANT, mount_point=mount)


def test_a_rate_limit(openbao: OpenBao) -> None:
    """Past the limit the server answers 429, and writes nothing into the audit log."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    client = openbao.client()
    since = openbao.mark()
    with openbao.throttled(mount, rate=2):
        made = [minted(client, mount, key), minted(client, mount, key)]
        with pytest.raises(refused.RateLimitExceeded):
            minted(client, mount, key)

    assert len(made) == openbao.calls(mount, since=since).total() == 2
    assert minted(client, mount, key)


def test_the_audit_log_counts_calls(openbao: OpenBao) -> None:
    """Each call is in the count once, also one that was refused, and no other mount's."""
    mount, elsewhere = openbao.transit(), openbao.transit()
    openbao.key(mount, "pii")
    openbao.key(elsewhere, "pii")
    since = openbao.mark()
    for _ in range(3):
        minted(openbao.client(), mount, "pii")
    with pytest.raises(refused.Forbidden):
        minted(openbao.client(""), mount, "pii")
    minted(openbao.client(), elsewhere, "pii")

    assert openbao.calls(mount, since=since) == {("update", f"{mount}/datakey/wrapped/pii"): 4}
    assert openbao.calls(mount)[("update", f"{mount}/keys/pii")] == 1
    assert [("error" in entry) for entry in openbao.requests(mount, since=since)] == [
        False, False, False, True,
    ]  # fmt: skip


def test_the_audit_log_holds_no_values(openbao: OpenBao) -> None:
    """Neither a token nor a ciphertext nor a plaintext key is in the audit log."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    client = openbao.client()
    wrapped = minted(client, mount, key)
    opened = client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)
    log = openbao.audit_log.read_text()

    assert openbao.root_token not in log
    assert wrapped not in log
    assert opened["data"]["plaintext"] not in log


def test_a_role_logs_in(openbao: OpenBao) -> None:
    """A role id and a secret id give a token that has the role's policies only, and expires."""
    mount = openbao.transit()
    openbao.key(mount, "pii")
    policy = openbao.policy(
        None, f'path "{mount}/datakey/wrapped/pii" {{ capabilities = ["update"] }}'
    )
    role_id, secret_id = openbao.approle([policy], token_ttl="90s")
    client = openbao.client("")
    auth = client.auth.approle.login(role_id, secret_id)["auth"]

    assert (auth["policies"], auth["lease_duration"], auth["renewable"]) == ([policy], 90, True)
    assert minted(client, mount, "pii")
    with pytest.raises(refused.InvalidRequest):
        openbao.client("").auth.approle.login(role_id, "wrong")


def test_a_token_ends(openbao: OpenBao) -> None:
    """A token that has expired gets 403, and one that may not be renewed does not live longer for trying."""
    mount = openbao.transit()
    openbao.key(mount, "pii")
    policy = openbao.policy(
        None,
        f"""
        path "{mount}/datakey/wrapped/pii" {{ capabilities = ["update"] }}
        path "auth/token/renew-self" {{ capabilities = ["update"] }}
        """,
    )
    short, renewed = (
        openbao.client(openbao.token([policy], ttl="3s", renewable=renewable))
        for renewable in (False, True)
    )
    made = minted(short, mount, "pii")
    renewed.auth.token.renew_self(increment="1h")
    with pytest.raises(refused.InvalidRequest):
        short.auth.token.renew_self(increment="1h")
    time.sleep(3.2)

    assert made
    assert minted(renewed, mount, "pii")
    with pytest.raises(refused.Forbidden):
        minted(short, mount, "pii")


def test_a_namespace_is_apart(openbao: OpenBao) -> None:
    """A mount of a namespace is not there without it, and a token of one namespace does nothing in another."""
    name, other = openbao.namespace(), openbao.namespace()
    mount = openbao.transit(namespace=name)
    openbao.key(mount, "pii", namespace=name)
    policy = openbao.policy(
        None,
        f'path "{mount}/datakey/wrapped/pii" {{ capabilities = ["update"] }}',
        namespace=name,
    )
    token = openbao.token([policy], namespace=name)

    assert minted(openbao.client(token, namespace=name), mount, "pii")
    for elsewhere in (None, other):
        with pytest.raises(refused.Forbidden):
            minted(openbao.client(token, namespace=elsewhere), mount, "pii")


def test_sealed_and_unsealed(openbao: OpenBao) -> None:
    """A sealed server answers 503; unsealed, it opens what was wrapped before."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    client = openbao.client()
    wrapped = minted(client, mount, key)
    with openbao.sealed(), pytest.raises(refused.VaultDown):
        minted(client, mount, key)

    assert client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)


def test_stopped_and_started(openbao: OpenBao) -> None:
    """A server that was killed answers nothing; started again, it is where it was, with its data."""
    mount = openbao.transit()
    key = openbao.key(mount, "pii")
    address, client = openbao.address, openbao.client()
    wrapped = minted(client, mount, key)
    with openbao.stopped(), pytest.raises(requests.ConnectionError):
        minted(client, mount, key)

    assert openbao.address == address
    assert client.secrets.transit.decrypt_data(key, wrapped, context=TENANT, mount_point=mount)
    assert openbao.calls(mount)[("update", f"{mount}/decrypt/{key}")] == 1
