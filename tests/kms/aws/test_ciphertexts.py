# SPDX-License-Identifier: Apache-2.0
"""What AWS KMS wraps opens under its own key and context only. On moto, whose cipher is a real one."""

from typing import Any

import pytest

from lacre.errors import ConfigurationError, KeyNotFound, Tampered
from lacre.keys.ports import KeyMover, KeyService, KmsKeyAdministration
from lacre.kms.aws import AwsKeyService
from lacre.sensitive import KeyMaterial
from tests.components.aws import AWS, REPLICA_REGION
from tests.components.faults import Alter, FaultProxy
from tests.kms.aws.conftest import Serve
from tests.kms.aws.rows import context_of, uri_of

CONTEXT = context_of()


def test_it_is_a_key_service(serve: Serve, moto: AWS) -> None:
    """One object is key service, mover and administration; the type checker compares the signatures."""
    service: AwsKeyService = serve(moto)
    ports: tuple[KeyService, KeyMover, KmsKeyAdministration] = (service, service, service)

    assert len(set(map(id, ports))) == 1


def test_what_is_minted_unwraps(serve: Serve, moto: AWS) -> None:
    """A minted key is 32 bytes, the same at every unwrap and another for each mint; its plaintext was never sent for."""
    service, arn = serve(moto), moto.key()
    since = moto.mark()
    first, second = (service.mint(uri_of(arn), CONTEXT) for _ in range(2))
    keys = [service.unwrap(uri_of(arn), blob, CONTEXT).reveal() for blob in (first, first, second)]

    assert len(keys[0]) == 32
    assert keys[0] == keys[1] != keys[2]
    assert moto.calls(arn, since=since) == {
        ("GenerateDataKeyWithoutPlaintext", arn): 2,
        ("Decrypt", arn): 3,
    }
    assert {str(entry["EncryptionContext"]) for entry in moto.requests(arn)} == {str(CONTEXT)}


def test_every_pair_of_the_context_is_bound(serve: Serve, moto: AWS) -> None:
    """A wrapped key opens with all eight pairs as they were, and with none changed, missing or more."""
    service, uri = serve(moto), uri_of(moto.key())
    blob = service.mint(uri, CONTEXT)
    wrong = [CONTEXT | {name: "other"} for name in CONTEXT]
    wrong += [{each: CONTEXT[each] for each in CONTEXT if each != name} for name in CONTEXT]
    wrong += [CONTEXT | {"more": "x"}, {}]

    assert len(CONTEXT) == 8
    for context in wrong:
        with pytest.raises(Tampered):
            service.unwrap(uri, blob, context)


def test_a_key_opens_under_its_own_kms_key(serve: Serve, moto: AWS) -> None:
    """A blob of another KMS key that the same principal may use is refused, and so are changed bytes."""
    service, uri, other = serve(moto), uri_of(moto.key()), uri_of(moto.key())
    blob = service.mint(uri, CONTEXT)
    changed = blob[:-1] + bytes([blob[-1] ^ 1])

    for kms_key, wrapped in (
        (other, blob),
        (uri, changed),
        (uri, b""),
        (uri, b"x" * 7000),
        (uri, b"junk"),
    ):
        with pytest.raises(Tampered):
            service.unwrap(kms_key, wrapped, CONTEXT)


def test_rewrap_stays_inside(serve: Serve, moto: AWS) -> None:
    """ReEncrypt gives the same key under the other KMS key and context, in one call without plaintext."""
    service, source, destination = serve(moto), moto.key(), moto.key()
    blob = service.mint(uri_of(source), CONTEXT)
    key = service.unwrap(uri_of(source), blob, CONTEXT)
    to_context = context_of(version=2)
    since = moto.mark()
    moved = service.rewrap(
        uri_of(source), blob, CONTEXT, to=uri_of(destination), to_context=to_context
    )

    assert [entry["operation"] for entry in moto.requests(since=since)] == ["ReEncrypt"]
    assert service.unwrap(uri_of(destination), moved, to_context).reveal() == key.reveal()
    for kms_key, context in ((source, to_context), (destination, CONTEXT)):
        with pytest.raises(Tampered):
            service.unwrap(uri_of(kms_key), moved, context)


def test_rewrap_pins_its_source(serve: Serve, moto: AWS) -> None:
    """A blob of a third key, or of another context, is not moved: whoever planted it knows the key in it."""
    service, source, third = serve(moto), uri_of(moto.key()), uri_of(moto.key())
    planted = service.wrap(third, KeyMaterial(b"k" * 32), CONTEXT)
    blob = service.mint(source, CONTEXT)

    for wrapped, context in ((planted, CONTEXT), (blob, context_of(tenant="other")), (b"", CONTEXT)):  # fmt: skip
        with pytest.raises(Tampered):
            service.rewrap(source, wrapped, context, to=source, to_context=CONTEXT)


def test_keys_come_from_another_service(serve: Serve, moto: AWS) -> None:
    """A key that is wrapped here is the same key; to another region it goes by unwrap and wrap."""
    service, here = serve(moto), uri_of(moto.key())
    there = uri_of(str(moto.client(region=REPLICA_REGION).create_key()["KeyMetadata"]["Arn"]))
    blob = service.wrap(here, KeyMaterial(b"k" * 32), CONTEXT)
    moved = service.rewrap(here, blob, CONTEXT, to=there, to_context=CONTEXT)

    assert service.unwrap(here, blob, CONTEXT).reveal() == b"k" * 32
    assert service.unwrap(there, moved, CONTEXT).reveal() == b"k" * 32


def test_rotation_keeps_what_was_wrapped(serve: Serve, moto: AWS) -> None:
    """After a rotation on demand old blobs open; KMS numbers nothing and its blobs tell no version."""
    service, arn = serve(moto), moto.key()
    blob = service.mint(uri_of(arn), CONTEXT)
    since = moto.mark()
    service.rotate(uri_of(arn))

    assert moto.calls(arn, since=since) == {("RotateKeyOnDemand", arn): 1}
    assert service.unwrap(uri_of(arn), blob, CONTEXT)
    assert service.version_of(blob) is None  # type: ignore[func-returns-value]
    with pytest.raises(Tampered):
        service.version_of(b"")


def _instead(**members: str) -> Alter:
    def change(answer: Any) -> Any:
        assert set(members) <= set(answer)
        return answer | members

    return Alter(change=change)


@pytest.mark.parametrize("operation", ["mint", "unwrap", "wrap", "rewrap"])
def test_an_answer_that_names_another_key_is_refused(
    serve: Serve, moto: AWS, before_moto: FaultProxy, operation: str
) -> None:
    """Where the answer's KeyId (of a rewrap also SourceKeyId) is not the pinned ARN, nothing of it is used."""
    arn, other = moto.key(), moto.key()
    uri = uri_of(arn)
    service = serve(moto, endpoint_url=before_moto.address)
    blob = service.mint(uri, CONTEXT)
    call = {
        "mint": lambda: service.mint(uri, CONTEXT),
        "unwrap": lambda: service.unwrap(uri, blob, CONTEXT),
        "wrap": lambda: service.wrap(uri, KeyMaterial(b"k" * 32), CONTEXT),
        "rewrap": lambda: service.rewrap(uri, blob, CONTEXT, to=uri, to_context=CONTEXT),
    }[operation]

    assert call()
    for name in ("KeyId", "SourceKeyId") if operation == "rewrap" else ("KeyId",):
        for wrong in (other, arn.rpartition("/")[2], arn.replace("us-east-1", "eu-west-1"), ""):
            with before_moto.faulty(_instead(**{name: wrong})), pytest.raises(Tampered):
                call()


@pytest.mark.parametrize("plaintext", ["", "c2hvcnQ=", "A" * 44])
def test_a_plaintext_of_another_size_is_no_key(
    serve: Serve, moto: AWS, before_moto: FaultProxy, plaintext: str
) -> None:
    """What KMS unwraps is exactly 32 bytes, or it was not minted as a key."""
    service, uri = serve(moto, endpoint_url=before_moto.address), uri_of(moto.key())
    blob = service.mint(uri, CONTEXT)
    before_moto.put(_instead(Plaintext=plaintext))

    with pytest.raises(Tampered):
        service.unwrap(uri, blob, CONTEXT)


def test_a_key_that_is_not_there_is_not_found(serve: Serve, moto: AWS) -> None:
    """An id that KMS does not know is KeyNotFound, for every operation."""
    service = serve(moto)
    nobody = "aws-kms://us-east-1/123456789012/key/00000000-0000-4000-8000-000000000000"

    for call in (
        lambda: service.mint(nobody, CONTEXT),
        lambda: service.wrap(nobody, KeyMaterial(b"k" * 32), CONTEXT),
        lambda: service.status(nobody),
        lambda: service.rotate(nobody),
    ):
        with pytest.raises(KeyNotFound):
            call()


def test_nothing_is_wrapped_under_an_alias(serve: Serve, moto: AWS) -> None:
    """No operation takes an alias, and none asks AWS what it stands for."""
    service, name = serve(moto), moto.alias(None, moto.key())
    alias = f"aws-kms://us-east-1/{name}"
    since = moto.mark()

    for call in (
        lambda: service.mint(alias, CONTEXT),
        lambda: service.unwrap(alias, b"x" * 100, CONTEXT),
        lambda: service.wrap(alias, KeyMaterial(b"k" * 32), CONTEXT),
        lambda: service.rewrap(alias, b"x", CONTEXT, to=alias, to_context=CONTEXT),
        lambda: service.rotate(alias),
    ):
        with pytest.raises(ConfigurationError, match="alias"):
            call()
    assert not moto.requests(since=since)


def test_an_alias_is_resolved_for_who_pins_it(serve: Serve, moto: AWS) -> None:
    """`resolve` gives the pinned URI; an attacker who moves the alias afterwards changes nothing but what status says."""
    service, arn, evil = serve(moto), moto.key(), moto.key()
    name = moto.alias(None, arn)
    alias = f"aws-kms://us-east-1/{name}"
    pinned = service.resolve(alias)
    blob = service.mint(pinned, CONTEXT)
    moto.alias(name, evil)
    since = moto.mark()
    service.unwrap(pinned, blob, CONTEXT)
    service.mint(pinned, CONTEXT)

    assert pinned == uri_of(arn)
    assert service.resolve(pinned) == pinned
    assert {entry["KeyId"] for entry in moto.requests(since=since)} == {arn}
    assert service.status(alias).points_to == uri_of(evil)


@pytest.mark.parametrize("kind", [
    {"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"},
    {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
])  # fmt: skip
def test_only_symmetric_keys_wrap(serve: Serve, moto: AWS, kind: dict[str, str]) -> None:
    """A key pair or a MAC key is not pinned, and its status says that it is not symmetric."""
    service = serve(moto)
    arn = str(moto.client().create_key(**kind)["KeyMetadata"]["Arn"])
    status = service.status(uri_of(arn))

    assert (status.state, status.usable) == ("not symmetric", False)
    with pytest.raises(ConfigurationError, match="does not encrypt symmetrically"):
        service.resolve(uri_of(arn))


def test_an_alias_is_pinned_to_its_own_region(
    serve: Serve, moto: AWS, before_moto: FaultProxy
) -> None:
    """A description that names a key of another region, account's form or partition is not pinned."""
    service = serve(moto, endpoint_url=before_moto.address)
    arn = moto.key()
    uri = uri_of(arn)

    assert service.resolve(uri) == uri
    for wrong in (
        arn.replace("us-east-1", "eu-west-1"),
        arn.replace("arn:aws:", "arn:aws-cn:"),
        "",
        "x",
    ):

        def altered(answer: Any, wrong: str = wrong) -> Any:
            return {"KeyMetadata": answer["KeyMetadata"] | {"Arn": wrong}}

        before_moto.put(Alter(change=altered))
        with pytest.raises(ConfigurationError, match="not in us-east-1"):
            service.resolve(uri)
