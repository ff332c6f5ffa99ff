# SPDX-License-Identifier: Apache-2.0
"""A node that stands by: it passes calls on, and where it cannot, its redirect is not followed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from lacre.errors import KeyServiceUnreachable
from lacre.keys.transit_context import transit_context
from tests.components.openbao import OpenBao, openbao_server
from tests.kms.openbao.conftest import Engine, bound


@pytest.fixture
def leader() -> Iterator[OpenBao]:
    """A server of the test's own."""
    with openbao_server() as server:
        yield server


def test_a_node_that_stands_by(leader: OpenBao, tmp_path: Path) -> None:
    """By way of a standby keys open; once the leader is gone the standby redirects, and gets no further."""
    mount = leader.transit()
    leader.key(mount, "pii")
    engine = Engine(server=leader, directory=tmp_path, mount=mount)
    with leader.standby() as address:
        wrapped = engine.service().mint(engine.pii, bound())
        by_standby = engine.service(address=address)
        opened = by_standby.unwrap(engine.pii, wrapped, bound()).reveal()
        redirect = requests.post(
            f"{address}/v1/{mount}/decrypt/pii",
            headers={"X-Vault-Token": leader.root_token, "X-Vault-No-Request-Forwarding": "true"},
            json={"ciphertext": wrapped.decode(), "context": transit_context(bound())},
            verify=str(leader.ca_file), allow_redirects=False, timeout=30,
        )  # fmt: skip
        expected = engine.service().unwrap(engine.pii, wrapped, bound()).reveal()
        leader.stop()

        assert opened == expected
        assert (redirect.status_code, redirect.headers["Location"].startswith(leader.address)) == (307, True)  # fmt: skip
        with pytest.raises(KeyServiceUnreachable):
            by_standby.unwrap(engine.pii, wrapped, bound())
