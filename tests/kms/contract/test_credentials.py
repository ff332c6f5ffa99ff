# SPDX-License-Identifier: Apache-2.0
"""Minting, running, searching, moving and administering are credentials that cannot do one another's part."""

from collections.abc import Callable, Mapping

import pytest

from lacre.errors import KeyServiceDenied
from lacre.sensitive import KeyMaterial
from tests.kms.contract.rig import OPERATIONS, Credential, Rig, Service, context


def _uses(rig: Rig, kms_key: str, use: str) -> Mapping[str, Callable[[Service], object]]:
    pairs = context(kms_key, use=use)
    blob = rig.open(Credential.MINTS).mint(kms_key, pairs)
    return {
        "mint": lambda service: service.mint(kms_key, pairs),
        "unwrap": lambda service: service.unwrap(kms_key, blob, pairs),
        "wrap": lambda service: service.wrap(kms_key, KeyMaterial(bytes(32)), pairs),
        "rewrap": lambda service: service.rewrap(
            kms_key, blob, pairs, to=kms_key, to_context=pairs
        ),
        "status": lambda service: service.status(kms_key),
    }


@pytest.mark.parametrize("use", ["fields", "index"])
@pytest.mark.parametrize("who", list(Credential))
def test_each_credential_does_its_part_and_no_other(rig: Rig, who: Credential, use: str) -> None:
    """Each operation works under the credentials it is for, and is `KeyServiceDenied` under every other."""
    kms_key = rig.kms_key(use)
    uses, may = _uses(rig, kms_key, use), rig.may(who, use)
    service = rig.open(who)

    assert tuple(uses) == OPERATIONS
    for operation, called in uses.items():
        if operation in may:
            called(service)
        else:
            with pytest.raises(KeyServiceDenied) as caught:
                called(service)
            assert not caught.value.retryable


def test_a_denial_is_asked_for_once(rig: Rig) -> None:
    """A denied operation reaches the service once: it is not tried again until somebody lets it."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    blob = rig.open(Credential.MINTS).mint(kms_key, pairs)
    nobody = rig.open(Credential.NOBODY)
    with pytest.raises(KeyServiceDenied):
        nobody.unwrap(kms_key, blob, pairs)  # whatever a first use costs
    before = rig.asked()
    with pytest.raises(KeyServiceDenied):
        nobody.unwrap(kms_key, blob, pairs)

    assert rig.asked() == before + (rig.family != "local")


def test_denials_do_not_open_the_breaker(rig: Rig) -> None:
    """A service that denies answers: after twenty denials one credential's next right use works."""
    fields, index = rig.kms_key(), rig.kms_key("index")
    denied, allowed = context(fields), context(index, use="index")
    minting = rig.open(Credential.MINTS)
    theirs, mine = minting.mint(fields, denied), minting.mint(index, allowed)
    searching = rig.open(Credential.SEARCHES)

    for _ in range(20):
        with pytest.raises(KeyServiceDenied):
            searching.unwrap(fields, theirs, denied)
    assert len(searching.unwrap(index, mine, allowed).reveal()) == 32


@pytest.mark.parametrize("who", list(Credential))
def test_only_the_administrator_rotates(remote: Rig, who: Credential) -> None:
    """A KMS key gets new material from the administering credential, and from no other."""
    kms_key = remote.kms_key()
    service = remote.open(who)

    if who is Credential.ADMINISTERS:
        before = service.status(kms_key).version
        assert service.rotate(kms_key) == (None if before is None else before + 1)
    else:
        with pytest.raises(KeyServiceDenied):
            service.rotate(kms_key)
