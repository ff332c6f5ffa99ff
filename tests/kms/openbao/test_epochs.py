# SPDX-License-Identifier: Apache-2.0
"""Epoch KMS keys in a real OpenBao: a version for each epoch, destroyed by trim and by nothing less."""

import pytest

from lacre.errors import ConfigurationError, KeyDestroyed, KeyServiceDenied
from lacre.keys.epochs import FIRST
from lacre.kms.openbao.epochs import OpenBaoEpochKeys
from tests.kms.openbao.conftest import Engine, bound

CONTEXT = bound(kind="seal", tenant="-", **{"class": "-"})


def test_an_epoch_gets_a_version_of_its_own_once(engine: Engine) -> None:
    """The first epoch has the second version there is, the next another; asking again makes no more."""
    service = engine.service()
    keys = OpenBaoEpochKeys(engine.pii, service=service)

    for number, above, version in ((1, None, 1), (1, FIRST, 2), (1, FIRST, 2), (2, "2", 3), (2, "2", 3)):  # fmt: skip
        assert keys.open(number, above=above) == engine.pii
        assert service.status(engine.pii).version == version


def test_two_key_stores_seal_under_no_one_key(engine: Engine) -> None:
    """A key that has an epoch begins none of another key store: its end would be the end of both."""
    service = engine.service()
    OpenBaoEpochKeys(engine.pii, service=service).open(1, above=FIRST)

    with pytest.raises(ConfigurationError, match="another key store may seal"):
        OpenBaoEpochKeys(engine.pii, service=service).open(1, above=None)
    assert service.status(engine.pii).version == 2


def test_trim_destroys_an_epoch_and_leaves_the_next(engine: Engine) -> None:
    """What the epoch's version wrapped is destroyed for good, what the next wrapped opens; done twice, nothing more."""
    service = engine.service()
    keys = OpenBaoEpochKeys(engine.pii, service=service)
    old = service.mint(engine.pii, CONTEXT)
    keys.open(2, above=service.version_of(old))
    new = service.mint(engine.pii, CONTEXT)
    before, after = service.version_of(old), service.version_of(new)
    service.unwrap(engine.pii, old, CONTEXT)
    assert not keys.is_destroyed(engine.pii, before)

    keys.destroy(engine.pii, before, kept=after)
    keys.destroy(engine.pii, before, kept=after)

    assert keys.is_destroyed(engine.pii, before)
    assert not keys.is_destroyed(engine.pii, after)
    service.unwrap(engine.pii, new, CONTEXT)
    with pytest.raises(KeyDestroyed):
        service.unwrap(engine.pii, old, CONTEXT)
    # The minimum that could be lowered again is not what keeps it: lowered, it stays gone.
    client = engine.server.client()
    with pytest.raises(Exception, match=r"min_available_version|min decryption version"):
        client.adapter.post(
            f"/v1/{engine.mount}/keys/pii/config", json={"min_decryption_version": 1}
        )


def test_what_may_not_trim_destroys_nothing(engine: Engine) -> None:
    """A credential without the right to trim is refused, and the epoch lives."""
    service = engine.service()
    old = service.mint(engine.pii, CONTEXT)
    service.rotate(engine.pii)
    token = engine.allowed({
        "keys/pii": 'capabilities = ["read"]', "keys/pii/config": 'capabilities = ["update"]',
    })  # fmt: skip
    keys = OpenBaoEpochKeys(engine.pii, service=engine.service(token))

    with pytest.raises(KeyServiceDenied):
        keys.destroy(engine.pii, "1", kept="2")
    assert not keys.is_destroyed(engine.pii, "1")
    assert service.version_of(old) == "1"
