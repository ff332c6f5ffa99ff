# SPDX-License-Identifier: Apache-2.0
"""What a KMS key of OpenBao wraps opens under it, in its place, and nowhere else."""

from collections.abc import Callable

import pytest

from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    LacreError,
    Tampered,
)
from lacre.keys.transit_context import pinned_prefix, transit_context
from lacre.sensitive import KeyMaterial
from tests.kms.openbao.conftest import Engine, bound

UPDATE = 'capabilities = ["update"]'


def test_mint_and_unwrap(engine: Engine) -> None:
    """A minted key opens to the same 32 bytes each time, and no two are the same."""
    service = engine.service()
    first, second = service.mint(engine.pii, bound()), service.mint(engine.pii, bound())
    opened = service.unwrap(engine.pii, first, bound()).reveal()

    assert len(opened) == 32
    assert service.unwrap(engine.pii, first, bound()).reveal() == opened
    assert service.unwrap(engine.pii, second, bound()).reveal() != opened


def test_minting_shows_no_key(engine: Engine) -> None:
    """Minting asks for a wrapped key, once, and reads the KMS key's properties once for a process."""
    service = engine.service()
    since = engine.server.mark()
    for _ in range(3):
        service.mint(engine.pii, bound())

    assert engine.server.calls(engine.mount, since=since) == {
        ("read", f"{engine.mount}/keys/pii"): 1,
        ("update", f"{engine.mount}/datakey/wrapped/pii"): 3,
    }


@pytest.mark.parametrize("name", sorted(bound().keys() - {"lacre-key"}))
def test_every_pair_is_bound(engine: Engine, name: str) -> None:
    """A wrapped key opens in no context that differs in one pair; the key id is in the row's digest."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    elsewhere = bound(row="two") if name == "lacre-row" else bound(**{name: "elsewhere"})

    with pytest.raises(Tampered):
        service.unwrap(engine.pii, wrapped, elsewhere)


def test_another_key_refuses(engine: Engine) -> None:
    """What one KMS key wrapped does not open, and is not wrapped anew, under another."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())

    with pytest.raises(Tampered):
        service.unwrap(engine.other, wrapped, bound())
    with pytest.raises(Tampered):
        service.rewrap(engine.other, wrapped, bound(), to=engine.other, to_context=bound())


def test_garbage_is_refused_without_asking(engine: Engine) -> None:
    """Bytes that are no wrapped key of Transit are refused before any call, a second text of one too."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    body = wrapped.rpartition(b":")[2]
    since = engine.server.mark()

    for garbage in (
        b"", b"junk", body, b"vault:v1:", b"vault:v0:" + body, b"vault:v01:" + body, b"vault:v1:" + body[:-4],
        b"vault:v1:" + body + b"AAAA", b"vault:v1:" + body[:-1] + b"=", b"vault:v-1:" + body,
        b"vault:v1:" + body[:-1] + b"\n", wrapped + b"\n", wrapped.upper(), b"vault:v9999999999:" + body,
        b"vault:v1:" + body[:-1] + b"-", b"\xff" * 89,
    ):  # fmt: skip
        with pytest.raises(Tampered):
            service.unwrap(engine.pii, garbage, bound())
        with pytest.raises(Tampered):
            service.rewrap(engine.pii, garbage, bound(), to=engine.pii, to_context=bound())
    assert not engine.server.calls(engine.mount, since=since)


def test_no_bit_may_flip(engine: Engine) -> None:
    """A wrapped key with one character changed, at any of a spread of places, opens nowhere."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())

    for place in (6, 7, *range(9, 89, 7), 88):
        changed = bytearray(wrapped)
        changed[place] = ord("B") if changed[place] == ord("A") else ord("A")
        with pytest.raises(Tampered):
            service.unwrap(engine.pii, bytes(changed), bound())
    with pytest.raises(Tampered):  # a version that there is not
        service.unwrap(engine.pii, b"vault:v7:" + wrapped.rpartition(b":")[2], bound())


def test_the_context_is_in_the_layout_of_the_specification() -> None:
    """The context is the six pairs, padded, then the digest; a tenant's prefix has them whole."""
    context = bound()
    pairs = {name: context[name] for name in context if not name.startswith("lacre-")}
    whole = transit_context(context)
    for_tenant = pinned_prefix(pairs)
    for_service = pinned_prefix(pairs, any_tenant=True)

    assert whole.startswith(for_tenant)
    assert len(whole) - len(for_tenant) == 44
    assert whole.startswith(for_service)
    assert transit_context(bound(tenant="other")).startswith(for_service)
    assert not transit_context(bound(tenant="other")).startswith(for_tenant)
    for name in ("app", "class", "env", "kind", "service"):
        assert not transit_context(bound(**{name: context[name] + "x"})).startswith(for_service)


@pytest.mark.parametrize("tenant", ["a", "ab", "abc", "acme", "ação 東京", "x" * 255])
def test_a_prefix_fits_only_its_own(tenant: str) -> None:
    """A prefix for one tenant fits no tenant that begins with its name, or ends in zero bytes."""
    pairs = {k: v for k, v in bound(tenant=tenant).items() if not k.startswith("lacre-")}

    assert transit_context(bound(tenant=tenant)).startswith(pinned_prefix(pairs))
    for other in (tenant + "x", tenant + "\0", tenant[:-1] or "other"):
        assert not transit_context(bound(tenant=other)).startswith(pinned_prefix(pairs))


def test_wrap_and_unwrap(engine: Engine) -> None:
    """A key that comes from elsewhere is wrapped, and opens to itself, in its place only."""
    service, key = engine.service(), KeyMaterial(bytes(range(32)))
    wrapped = service.wrap(engine.pii, key, bound())

    assert service.unwrap(engine.pii, wrapped, bound()).reveal() == key.reveal()
    with pytest.raises(Tampered):
        service.unwrap(engine.pii, wrapped, bound(row="two"))


def test_wrapping_makes_no_kms_key(engine: Engine) -> None:
    """Wrapping under a KMS key that there is not raises, and makes none, although the engine would."""
    service = engine.service()

    with pytest.raises(KeyNotFound):
        service.wrap(f"openbao://{engine.mount}/absent", KeyMaterial(bytes(32)), bound())
    with pytest.raises(KeyNotFound):
        service.status(f"openbao://{engine.mount}/absent")


def test_rewrap_stays_inside(engine: Engine) -> None:
    """After a rotation the same key is wrapped under the new version, without leaving the server."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    service.rotate(engine.pii)
    since = engine.server.mark()
    moved = service.rewrap(engine.pii, wrapped, bound(), to=engine.pii, to_context=bound())
    asked = engine.server.calls(engine.mount, since=since)
    opened = [service.unwrap(engine.pii, each, bound()).reveal() for each in (wrapped, moved)]

    assert moved.startswith(b"vault:v2:")
    assert asked == {("update", f"{engine.mount}/rewrap/pii"): 1}
    assert opened[0] == opened[1]


def test_rewrap_to_another_key_and_context(engine: Engine) -> None:
    """A key moves to another KMS key, and to another context, and opens there only."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    moved = service.rewrap(
        engine.pii, wrapped, bound(), to=engine.other, to_context=bound(row="two")
    )

    assert (
        service.unwrap(engine.other, moved, bound(row="two")).reveal()
        == service.unwrap(engine.pii, wrapped, bound()).reveal()
    )
    with pytest.raises(Tampered):
        service.unwrap(engine.other, moved, bound())


def test_retired_comes_back_and_destroyed_does_not(engine: Engine) -> None:
    """A retired version opens again once the bound is lowered; a destroyed one never, nor can it be."""
    service = engine.service()
    transit = engine.server.client().secrets.transit
    wrapped = service.mint(engine.pii, bound())
    before = service.unwrap(engine.pii, wrapped, bound()).reveal()
    service.rotate(engine.pii)
    moved = service.rewrap(engine.pii, wrapped, bound(), to=engine.pii, to_context=bound())

    service.retire_before(engine.pii, 2)
    with pytest.raises(KeyDisabled):
        service.unwrap(engine.pii, wrapped, bound())
    transit.update_key_configuration("pii", mount_point=engine.mount, min_decryption_version=1)
    assert service.unwrap(engine.pii, wrapped, bound()).reveal() == before

    service.destroy_before(engine.pii, 2)
    with pytest.raises(KeyDestroyed):
        service.unwrap(engine.pii, wrapped, bound())
    with pytest.raises(KeyDestroyed):
        service.rewrap(engine.pii, wrapped, bound(), to=engine.pii, to_context=bound())
    with pytest.raises(Exception, match="min available version"):
        transit.update_key_configuration("pii", mount_point=engine.mount, min_decryption_version=1)
    with pytest.raises(KeyDestroyed):
        service.unwrap(engine.pii, wrapped, bound())
    assert service.unwrap(engine.pii, moved, bound()).reveal() == before


def test_who_may_not_read_the_key_is_told_disabled(engine: Engine) -> None:
    """To a credential that may only decrypt, a destroyed version is one that is disabled."""
    administrator = engine.service()
    runtime = engine.service(engine.allowed({"decrypt/pii": UPDATE}))
    wrapped = administrator.mint(engine.pii, bound())
    administrator.rotate(engine.pii)
    administrator.destroy_before(engine.pii, 2)

    with pytest.raises(KeyDisabled):
        runtime.unwrap(engine.pii, wrapped, bound())


def test_versions_that_there_are_not(engine: Engine) -> None:
    """Neither a version to come nor none at all can be the first to stay."""
    service = engine.service()

    for version in (0, 2):
        with pytest.raises(LacreError, match="versions 1 to 1"):
            service.destroy_before(engine.pii, version)


def test_unknown_keys_mounts_and_namespaces(engine: Engine) -> None:
    """A missing key is KeyNotFound; a missing mount, engine or namespace is configuration."""
    service = engine.service()
    wrapped = service.mint(engine.pii, bound())
    absent = f"openbao://{engine.mount}/absent"
    calls: list[Callable[[str], object]] = [
        lambda key: service.mint(key, bound()),
        lambda key: service.unwrap(key, wrapped, bound()),
        lambda key: service.rewrap(key, wrapped, bound(), to=key, to_context=bound()),
        service.status,
        service.rotate,
        lambda key: service.retire_before(key, 1),
    ]

    for call in (calls[0], calls[1], *calls[3:]):
        with pytest.raises(KeyNotFound):
            call(absent)
    for call in calls:
        for key in ("openbao://nowhere/pii", "openbao://sys/pii", "local://pii"):
            with pytest.raises(ConfigurationError):
                call(key)
    with pytest.raises(ConfigurationError):
        engine.service(namespace="absent").unwrap(engine.pii, wrapped, bound())


def test_a_deleted_key(engine: Engine) -> None:
    """A KMS key that was deleted is KeyNotFound, one that is soft-deleted KeyDisabled."""
    service = engine.service()
    wrapped = {key: service.mint(key, bound()) for key in (engine.pii, engine.other)}
    client = engine.server.client()
    client.secrets.transit.update_key_configuration(
        "other", mount_point=engine.mount, deletion_allowed=True
    )
    allowed = service.status(engine.other).deletion
    client.secrets.transit.delete_key("other", mount_point=engine.mount)
    client.adapter.delete(f"/v1/{engine.mount}/keys/pii/soft-delete")
    status = service.status(engine.pii)

    with pytest.raises(KeyNotFound):
        service.unwrap(engine.other, wrapped[engine.other], bound())
    with pytest.raises(KeyDisabled):
        service.unwrap(engine.pii, wrapped[engine.pii], bound())
    assert allowed == "allowed at any time"
    assert (status.state, status.usable) == ("soft-deleted", False)


@pytest.mark.parametrize(
    "settings",
    [
        {"derived": False},
        {"exportable": True},
        {"allow_plaintext_backup": True},
        {"key_type": "chacha20-poly1305"},
        {"convergent_encryption": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_no_key_is_minted_under_an_unfit_kms_key(
    engine: Engine, settings: dict[str, object]
) -> None:
    """Nothing is wrapped under a KMS key that ignores the context or may leave the server."""
    name = engine.server.key(engine.mount, "unfit", **settings)
    kms_key = f"openbao://{engine.mount}/{name}"
    service = engine.service()

    with pytest.raises(ConfigurationError, match="no key to wrap under"):
        service.mint(kms_key, bound())
    with pytest.raises(ConfigurationError, match="no key to wrap under"):
        service.wrap(kms_key, KeyMaterial(bytes(32)), bound())
    assert not service.status(kms_key).usable


def test_who_may_not_read_the_key_finds_out_that_it_is_not_derived(engine: Engine) -> None:
    """A provisioner without the right to read a KMS key notices by minting that it ignores contexts."""
    engine.server.key(engine.mount, "unfit", derived=False)
    token = engine.allowed({"datakey/wrapped/+": UPDATE})
    service = engine.service(token)
    since = engine.server.mark()
    service.mint(engine.pii, bound())
    service.mint(engine.pii, bound())

    assert engine.server.calls(f"{engine.mount}/datakey", since=since).total() == 3
    with pytest.raises(ConfigurationError, match="derived is False"):
        service.mint(f"openbao://{engine.mount}/unfit", bound())


def test_a_denial_is_not_tried_again(engine: Engine) -> None:
    """What the policy does not allow is KeyServiceDenied, after one call."""
    wrapped = engine.service().mint(engine.pii, bound())
    token = engine.allowed({"decrypt/other": UPDATE, "auth/token/lookup-self": 'capabilities = ["read"]'})  # fmt: skip
    service = engine.service(token)
    since = engine.server.mark()

    with pytest.raises(KeyServiceDenied, match="decrypt/pii"):
        service.unwrap(engine.pii, wrapped, bound())
    assert engine.server.calls(engine.mount, since=since).total() == 1


def test_status(engine: Engine) -> None:
    """The status has the newest version, the rotation and a digest that changes with the policies."""
    service = engine.service()
    engine.server.client().secrets.transit.update_key_configuration(
        "pii", mount_point=engine.mount, auto_rotate_period="8760h"
    )
    before = service.status(engine.pii)
    elsewhere = service.status(engine.other).policy
    engine.allowed({"decrypt/pii": UPDATE})
    number = service.rotate(engine.pii)
    after = service.status(engine.pii)

    assert (before.state, before.usable, before.version, before.rotation, before.deletion) == (
        "enabled", True, 1, "every 365 days", None,
    )  # fmt: skip
    assert number == after.version == 2
    assert before.policy is not None
    assert before.policy != after.policy
    assert service.status(engine.other).policy == elsewhere
    for rule in ("+/other", "decrypt/*", "keys/other/config", "decrypt/{{identity.entity.name}}"):
        engine.policy({rule: UPDATE})
        assert service.status(engine.other).policy != elsewhere
        elsewhere = service.status(engine.other).policy
    for rule in ("decrypt/othe", "decrypt/other2", "+/+/other2", "keys/another/*"):
        engine.policy({rule: UPDATE})
    assert service.status(engine.other).policy == elsewhere


def test_a_credential_that_reads_no_policies(engine: Engine) -> None:
    """Where the policies may not be read, the status says nothing of them."""
    token = engine.allowed({"keys/pii": 'capabilities = ["read"]'})

    assert engine.service(token).status(engine.pii).policy is None


def test_namespaces(engine: Engine) -> None:
    """A service works in its namespace, and what is wrapped there does not exist elsewhere."""
    namespace = engine.server.namespace()
    mount = engine.server.transit("inside", namespace=namespace)
    engine.server.key(mount, "pii", namespace=namespace)
    inside = Engine(
        server=engine.server, directory=engine.directory, mount=mount, namespace=namespace
    )
    token = inside.allowed({"decrypt/pii": UPDATE, "datakey/wrapped/pii": UPDATE})
    service = inside.service(token)
    wrapped = service.mint(inside.pii, bound())

    assert len(service.unwrap(inside.pii, wrapped, bound()).reveal()) == 32
    with pytest.raises(KeyServiceDenied):
        engine.service(token).unwrap(inside.pii, wrapped, bound())
    with pytest.raises(ConfigurationError):
        engine.service().unwrap(inside.pii, wrapped, bound())
