# SPDX-License-Identifier: Apache-2.0
"""The proxy does to requests what it is told, and nothing else."""

import json
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import hvac
import hvac.exceptions as refused
import pytest
import requests
from botocore.exceptions import ClientError
from botocore.exceptions import SSLError as BotoSSLError

from tests.components.authority import Authority
from tests.components.aws import AWS
from tests.components.faults import (
    Alter,
    Answer,
    Delay,
    Drip,
    FaultProxy,
    Hold,
    Pass,
    Reset,
    Silence,
    Truncate,
    aws_error,
    fault_proxy,
    openbao_error,
)
from tests.components.openbao import OpenBao

CONTEXT = b64encode(b"acme").decode()
DECRYPT = "/decrypt/"


@pytest.fixture
def proxy(openbao: OpenBao) -> Iterator[FaultProxy]:
    """A proxy before OpenBao."""
    with fault_proxy(openbao.address, openbao.authority) as proxy:
        yield proxy


@pytest.fixture
def mount(openbao: OpenBao) -> str:
    """A mount of Transit with the key `pii`."""
    mount = openbao.transit()
    openbao.key(mount, "pii")
    return mount


@pytest.fixture
def client(openbao: OpenBao, proxy: FaultProxy) -> hvac.Client:
    """A client of OpenBao through the proxy, that waits a second."""
    client = openbao.client(address=proxy.address)
    client.adapter._kwargs["timeout"] = 1
    return client


def minted(client: hvac.Client, mount: str) -> str:
    """Mint a data key; return it, wrapped."""
    made = client.secrets.transit.generate_data_key(
        "pii", "wrapped", context=CONTEXT, mount_point=mount
    )
    return str(made["data"]["ciphertext"])


def test_it_lets_pass(openbao: OpenBao, proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """Requests pass over TLS that the client verifies; the proxy counts what the server counts, and keeps their bodies."""
    wrapped = minted(client, mount)
    opened = client.secrets.transit.decrypt_data("pii", wrapped, context=CONTEXT, mount_point=mount)
    (seen,) = proxy.seen(DECRYPT)

    assert proxy.address.startswith("https://127.0.0.1:")
    assert opened["data"]["plaintext"]
    assert (seen.method, seen.fault) == ("POST", None)
    assert json.loads(seen.body)["ciphertext"] == wrapped
    assert proxy.count() == 2
    assert openbao.calls(f"{mount}/decrypt")[("update", f"{mount}/decrypt/pii")] == 1
    assert refused_by_a_stranger(proxy)


def refused_by_a_stranger(proxy: FaultProxy) -> bool:
    """Say whether a client that does not know the authority turns the proxy away."""
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(proxy.address, timeout=5)
    return True


def test_it_answers_itself(
    openbao: OpenBao, proxy: FaultProxy, client: hvac.Client, mount: str
) -> None:
    """An answer is given as often as it was put, to the path it was put for, and the server sees none of it."""
    proxy.put(openbao_error(503, "Vault is sealed"), times=2, path=DECRYPT)
    proxy.put(openbao_error(429, retry_after=7), path="/datakey/")
    with pytest.raises(refused.RateLimitExceeded):
        minted(client, mount)
    wrapped = minted(client, mount)
    for _ in range(2):
        with pytest.raises(refused.VaultDown):
            client.secrets.transit.decrypt_data("pii", wrapped, context=CONTEXT, mount_point=mount)
    opened = client.secrets.transit.decrypt_data("pii", wrapped, context=CONTEXT, mount_point=mount)

    assert opened["data"]["plaintext"]
    assert openbao.calls(f"{mount}/de")[("update", f"{mount}/decrypt/pii")] == 1
    assert [bool(seen.fault) for seen in proxy.seen(DECRYPT)] == [True, True, False]
    assert [seen.at for seen in proxy.seen()] == sorted(seen.at for seen in proxy.seen())


def test_any_answer(openbao: OpenBao, proxy: FaultProxy) -> None:
    """Status, headers and body are as they were given: a load balancer's page, too."""
    proxy.put(Answer(status=502, body=b"<html>bad gateway</html>", headers={"Retry-After": "3"}))
    answer = requests.get(proxy.address, verify=str(openbao.ca_file), timeout=5)

    assert (answer.status_code, answer.text) == (502, "<html>bad gateway</html>")
    assert answer.headers["Retry-After"] == "3"


@pytest.mark.parametrize("fault", [Silence(), Delay(seconds=30)])
def test_a_client_waits_in_vain(
    proxy: FaultProxy, client: hvac.Client, mount: str, fault: Silence | Delay
) -> None:
    """A request that is not answered, or too late, runs into the client's own timeout."""
    proxy.put(fault)
    with pytest.raises(requests.ReadTimeout):
        minted(client, mount)

    assert minted(client, mount)


def test_a_slow_answer_arrives(proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """A body that drips is whole in the end, though each read of it is short."""
    proxy.put(Drip(seconds=0.001, size=16))

    assert minted(client, mount).startswith("vault:v1:")


def test_a_cut_answer_is_noticed(proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """Of a body that was cut nothing is believed."""
    proxy.put(Truncate(keep=20))

    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        minted(client, mount)


@pytest.mark.parametrize("served", [False, True])
def test_a_reset(
    openbao: OpenBao, proxy: FaultProxy, client: hvac.Client, mount: str, served: bool
) -> None:
    """A connection is reset before the server did anything, or after."""
    proxy.put(Reset(served=served))
    with pytest.raises(requests.ConnectionError):
        minted(client, mount)

    assert openbao.calls(mount)[("update", f"{mount}/datakey/wrapped/pii")] == served
    assert minted(client, mount)


def test_a_network_that_comes_and_goes(proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """What is put is taken in order."""
    outcomes = []
    for fault in (Reset(), Pass(), openbao_error(500), Pass()):
        proxy.put(fault)
    for _ in range(4):
        try:
            outcomes.append(bool(minted(client, mount)))
        except (requests.ConnectionError, refused.InternalServerError) as error:
            outcomes.append(type(error))

    assert outcomes == [requests.ConnectionError, True, refused.InternalServerError, True]


def test_nobody_listens(proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """Refused connections are refused at once, old ones are reset, and the address serves again afterwards."""
    assert minted(client, mount)
    proxy.refuse()
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            minted(client, mount)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.clear()

    assert minted(client, mount)


def test_nobody_answers(
    proxy: FaultProxy, openbao: OpenBao, client: hvac.Client, mount: str
) -> None:
    """A blackhole takes connections, old and new, and says nothing, not even TLS."""
    assert minted(client, mount)
    proxy.blackhole()
    with pytest.raises(requests.ReadTimeout):
        minted(client, mount)
    with pytest.raises(requests.Timeout):
        requests.get(proxy.address, verify=str(openbao.ca_file), timeout=0.5)
    proxy.clear()

    assert minted(client, mount)


def test_an_answer_is_altered(proxy: FaultProxy, client: hvac.Client, mount: str) -> None:
    """The answer's JSON is what a function made of it."""

    def other(answer: dict[str, dict[str, str]]) -> object:
        return {**answer, "data": {**answer["data"], "ciphertext": "vault:v1:other"}}

    with proxy.faulty(Alter(change=other)):
        altered = minted(client, mount)

    assert altered == "vault:v1:other"
    assert minted(client, mount) != altered


def test_requests_are_held(proxy: FaultProxy, openbao: OpenBao, mount: str) -> None:
    """Requests that are held have all come, and none has reached the server, until they are released."""
    with proxy.faulty(Hold()), ThreadPoolExecutor(8) as threads:
        waiting = [
            threads.submit(minted, openbao.client(address=proxy.address), mount) for _ in range(8)
        ]
        proxy.wait_for(8, "/datakey/")
        before = openbao.calls(f"{mount}/datakey").total()
        proxy.release()
        wrapped = {future.result() for future in waiting}

    assert (before, len(wrapped)) == (0, 8)
    assert openbao.calls(f"{mount}/datakey").total() == 8


def test_aws_through_the_proxy(moto: AWS) -> None:
    """Signed requests pass, over plain HTTP; an operation is throttled; an answer names another key."""
    key, other = moto.key(), moto.key()
    user = moto.principal(moto.allowed(["kms:GenerateDataKeyWithoutPlaintext"], key))
    with fault_proxy(moto.endpoint) as proxy:
        kms = moto.client(credentials=user, endpoint=proxy.address)

        def mint() -> str:
            made = kms.generate_data_key_without_plaintext(KeyId=key, NumberOfBytes=32)
            return str(made["KeyId"])

        passed = mint()
        proxy.put(aws_error("ThrottlingException"), path="GenerateDataKeyWithoutPlaintext")
        with pytest.raises(ClientError) as raised:
            mint()
        with proxy.faulty(Alter(change=lambda answer: {**answer, "KeyId": other})):
            named = mint()

        assert (passed, named) == (key, other)
        assert raised.value.response["Error"]["Code"] == "ThrottlingException"
        assert proxy.count("TrentService.GenerateDataKeyWithoutPlaintext") == 3


def test_tls_before_an_emulator(moto: AWS, tmp_path: Path) -> None:
    """With an authority, a service that speaks plain HTTP is reached over TLS; who does not trust it gets nothing."""
    authority = Authority(tmp_path)
    with fault_proxy(moto.endpoint, authority) as proxy:
        trusting = boto3.client(
            "kms", region_name=moto.region, endpoint_url=proxy.address, verify=str(authority.file),
            aws_access_key_id=moto.admin.access_key, aws_secret_access_key=moto.admin.secret_key,
        )  # fmt: skip

        assert proxy.address.startswith("https://")
        assert trusting.list_aliases()["Aliases"]
        with pytest.raises(BotoSSLError):
            moto.client(endpoint=proxy.address).list_aliases()


def test_nothing_is_left(openbao: OpenBao) -> None:
    """A proxy that ended has no thread and no connection, also where requests waited."""
    with fault_proxy(openbao.address, openbao.authority) as proxy, ThreadPoolExecutor(4) as threads:
        proxy.put(Silence(), times=None)
        waiting = [
            threads.submit(requests.get, proxy.address, verify=str(openbao.ca_file), timeout=60)
            for _ in range(4)
        ]
        proxy.wait_for(4)
        proxy.close()
        errors = [type(future.exception()) for future in waiting]
    there = [thread for thread in threading.enumerate() if thread.name == proxy.address]
    for thread in there:
        thread.join(10)

    assert errors == [requests.ConnectionError] * 4
    assert not any(thread.is_alive() for thread in there)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
