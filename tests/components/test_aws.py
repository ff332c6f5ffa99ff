# SPDX-License-Identifier: Apache-2.0
"""The emulators of AWS tell the truths that tests rest on; where they lie, the lie is known."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.components.aws import AWS, REPLICA_REGION, Credentials, statement

CONTEXT = {"lacre-tenant": "acme"}
RUN = ["kms:Decrypt"]
PROVISION = ["kms:GenerateDataKeyWithoutPlaintext"]


@pytest.fixture(params=["moto", "ministack"])
def aws(request: pytest.FixtureRequest) -> AWS:
    """Each emulator."""
    emulator: AWS = request.getfixturevalue(request.param)
    return emulator


def minted(kms: Any, key: str, context: dict[str, str] = CONTEXT) -> bytes:
    """Mint a data key; return it, wrapped."""
    made = kms.generate_data_key_without_plaintext(
        KeyId=key, NumberOfBytes=32, EncryptionContext=context
    )
    return bytes(made["CiphertextBlob"])


def opened(kms: Any, key: str, blob: bytes, context: dict[str, str] = CONTEXT) -> bytes:
    """Unwrap a data key."""
    answer = kms.decrypt(KeyId=key, CiphertextBlob=blob, EncryptionContext=context)
    assert answer["KeyId"] == key
    return bytes(answer["Plaintext"])


def refused(call: Any, *given: Any) -> str:
    """Return the code that AWS refuses *call* with."""
    with pytest.raises(ClientError) as raised:
        call(*given)
    return str(raised.value.response["Error"]["Code"])


def test_a_policy_names_keys_and_actions(aws: AWS) -> None:
    """A principal may what its policy allows, on the key it names, and nothing else; a user and a role alike."""
    key, other = aws.key(), aws.key()
    minting = aws.client(credentials=aws.principal(aws.allowed(PROVISION, key)))
    running = aws.client(credentials=aws.principal(aws.allowed(RUN, key), kind="role"))
    blob = minted(minting, key)

    assert len(opened(running, key, blob)) == 32
    assert refused(minted, minting, other) == "AccessDeniedException"
    assert refused(minted, running, key) == "AccessDeniedException"
    assert refused(opened, minting, key, blob) == "AccessDeniedException"
    assert refused(opened, running, other, blob) == "AccessDeniedException"
    assert refused(
        aws.client("kms", aws.principal(statement("kms:*", Resource=key))).create_key
    ) == ("AccessDeniedException")


def test_nobody_else_gets_in(aws: AWS) -> None:
    """An unknown access key and a wrong secret are refused as such."""
    user = aws.principal(aws.allowed(RUN, "*"))
    forged = Credentials(arn=user.arn, access_key=user.access_key, secret_key="guessed")
    unknown = Credentials(arn="", access_key="AKIAXXXXXXXXXXXXXXXX", secret_key="guessed")

    assert refused(aws.client(credentials=forged).list_keys) == "InvalidSignatureException"
    assert refused(aws.client(credentials=unknown).list_keys) == "UnrecognizedClientException"


def test_the_context_is_compared(aws: AWS) -> None:
    """What was wrapped under one context opens under no other."""
    key, kms = aws.key(), aws.client()
    blob = minted(kms, key)

    for context in ({"lacre-tenant": "other"}, {}, {**CONTEXT, "more": "x"}):
        assert refused(opened, kms, key, blob, context) == "InvalidCiphertextException"


def test_requests_are_counted(aws: AWS) -> None:
    """Each request is in the count once, also one that was refused, with its context and without secrets."""
    key = aws.key()
    running = aws.principal(aws.allowed(RUN, key))
    since = aws.mark()
    blob = minted(aws.client(), key)
    plain = opened(aws.client(credentials=running), key, blob)
    refused(minted, aws.client(credentials=running), key)
    last = aws.requests(key)[-1]

    assert aws.calls(key, since=since) == {
        ("GenerateDataKeyWithoutPlaintext", key): 2,
        ("Decrypt", key): 1,
    }
    assert (last["error"], last["access_key"]) == ("AccessDeniedException", running.access_key)
    assert last["EncryptionContext"] == CONTEXT
    assert running.secret_key not in aws.record.read_text()
    assert plain.hex() not in aws.record.read_text()


def test_a_replica_opens_what_its_primary_made(aws: AWS) -> None:
    """A multi-Region key opens in the other Region, under its own ARN; a key of one Region does not."""
    primary, single = aws.key(multi_region=True), aws.key()
    replica = aws.replica(primary)
    elsewhere = aws.client(region=REPLICA_REGION)
    blob = minted(aws.client(), primary)

    assert replica == primary.replace(aws.region, REPLICA_REGION)
    assert opened(elsewhere, replica, blob) == opened(aws.client(), primary, blob)
    assert refused(opened, elsewhere, single, minted(aws.client(), single)) == "NotFoundException"


def test_an_alias_moves(aws: AWS) -> None:
    """An alias that was moved stands for the other key, in the key's own description, too."""
    first, second = aws.key(), aws.key()
    name = aws.alias(None, first)
    before = aws.client().describe_key(KeyId=name)["KeyMetadata"]["Arn"]
    aws.alias(name, second)
    after = aws.client().describe_key(KeyId=name)["KeyMetadata"]["Arn"]

    assert (before, after) == (first, second)


def test_moto_wraps_truly(moto: AWS) -> None:
    """A changed blob and another key open nothing, even for who may everything."""
    key, other, kms = moto.key(), moto.key(), moto.client()
    blob = minted(kms, key)

    assert (
        refused(opened, kms, key, blob[:-1] + bytes([blob[-1] ^ 1])) == "InvalidCiphertextException"
    )
    assert refused(opened, kms, other, blob) == "IncorrectKeyException"


def test_moto_reencrypts_for_who_may_both(moto: AWS) -> None:
    """`ReEncrypt` needs the one permission on the source and the other on the destination."""
    source, destination = moto.key(), moto.key()
    blob = minted(moto.client(), source)

    def moved(come: str, go: str) -> bytes:
        policy = statement("kms:ReEncryptFrom", Resource=come)
        policy["Statement"] += statement("kms:ReEncryptTo", Resource=go)["Statement"]
        made = moto.client(credentials=moto.principal(policy)).re_encrypt(
            CiphertextBlob=blob, SourceEncryptionContext=CONTEXT, SourceKeyId=source,
            DestinationEncryptionContext=CONTEXT, DestinationKeyId=destination,
        )  # fmt: skip
        return bytes(made["CiphertextBlob"])

    there = moved(source, destination)

    assert opened(moto.client(), destination, there) == opened(moto.client(), source, blob)
    assert refused(moved, source, source) == "AccessDeniedException"
    assert refused(moved, destination, destination) == "AccessDeniedException"


def test_what_moto_does_not_tell(moto: AWS) -> None:
    """A disabled key decrypts, and a condition is not looked at: neither may be tested on moto."""
    key = moto.key()
    blob = minted(moto.client(), key)
    never = {"StringEquals": {"kms:EncryptionContext:lacre-tenant": "other"}}
    running = moto.principal(moto.allowed(RUN, key, Condition=never))
    moto.client().disable_key(KeyId=key)

    assert opened(moto.client(credentials=running), key, blob)


def test_ministack_refuses_by_key_state(ministack: AWS) -> None:
    """A disabled key and one that waits for deletion serve nobody; enabled again, the key does."""
    key, kms = ministack.key(), ministack.client()
    blob = minted(kms, key)
    kms.disable_key(KeyId=key)
    disabled = [refused(opened, kms, key, blob), refused(minted, kms, key)]
    kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
    pending = [refused(opened, kms, key, blob), refused(minted, kms, key)]
    kms.cancel_key_deletion(KeyId=key)
    kms.enable_key(KeyId=key)

    assert disabled == ["DisabledException"] * 2
    assert pending == ["KMSInvalidStateException"] * 2
    assert opened(kms, key, blob)


def test_ministack_asks_the_key_policy(ministack: AWS) -> None:
    """Where a key's policy does not hand over to identity policies, only whom it names may; a denial always wins."""
    named, wide = (ministack.principal(aws_policy) for aws_policy in (
        statement("sts:GetCallerIdentity", Resource="*"), statement("kms:*", Resource="*")
    ))  # fmt: skip
    only = statement("kms:*", Resource="*", Principal={"AWS": named.arn})
    closed, delegated = ministack.key(policy=only), ministack.key()
    denied = statement("kms:*", Resource="*")
    denied["Statement"] += statement("kms:Decrypt", effect="Deny", Resource=delegated)["Statement"]
    nearly = ministack.client(credentials=ministack.principal(denied))
    blob = minted(ministack.client(credentials=named), closed)

    assert opened(ministack.client(credentials=named), closed, blob)
    assert minted(ministack.client(credentials=wide), delegated)
    assert refused(minted, ministack.client(credentials=wide), closed) == "AccessDeniedException"
    assert refused(opened, nearly, delegated, minted(nearly, delegated)) == "AccessDeniedException"


def test_what_ministack_does_not_tell(ministack: AWS) -> None:
    """Another key opens a blob into garbage, and a condition on the context is never met: not to be tested on ministack."""
    key, other, kms = ministack.key(), ministack.key(), ministack.client()
    blob = minted(kms, key)
    met = {"StringEquals": {"kms:EncryptionContext:lacre-tenant": "acme"}}
    running = ministack.client(
        credentials=ministack.principal(ministack.allowed(RUN, key, Condition=met))
    )

    assert opened(kms, other, blob) != opened(kms, key, blob)
    assert refused(opened, running, key, blob) == "AccessDeniedException"


def test_ministack_keeps_a_trail(ministack: AWS) -> None:
    """CloudTrail finds a call by who made it."""
    key = ministack.key()
    user = ministack.principal(ministack.allowed(PROVISION, key))
    minted(ministack.client(credentials=user), key)
    asked = [{"AttributeKey": "AccessKeyId", "AttributeValue": user.access_key}]
    events = ministack.client("cloudtrail").lookup_events(LookupAttributes=asked)["Events"]

    assert [event["EventName"] for event in events] == ["GenerateDataKeyWithoutPlaintext"]
