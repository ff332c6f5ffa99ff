# SPDX-License-Identifier: Apache-2.0
"""Epoch KMS keys in a real OpenBao: a version for each epoch, destroyed by trim and by nothing less."""

import pytest

from lacre.errors import KeyDestroyed, KeyServiceDenied
from lacre.kms.openbao.epochs import OpenBaoEpochKeys
from tests.kms.openbao.conftest import Engine, bound

CONTEXT = bound(kind="seal", tenant="-", **{"class": "-"})


def test_an_epoch_gets_a_version_of_its_own_once(engine: Engine) -> None:
    """The first epoch has the version there is; the next another; asking again makes no third."""
    service = engine.service()
    keys = OpenBaoEpochKeys(engine.pii, service=service)

    assert keys.open(1, above=None) == engine.pii
    assert keys.open(2, above="1") == engine.pii
    assert keys.open(2, above="1") == engine.pii
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
