# SPDX-License-Identifier: Apache-2.0
"""Keys of AWS KMS as signers of notes, on moto, which signs for real."""

import pytest

from lacre.audit.notes import Checkpoint, Verifier, read_checkpoint, sign_checkpoint
from lacre.errors import ConfigurationError, Tampered
from lacre.kms.aws.signing import AwsSigner
from lacre.policy.model import AwsSettings
from tests.components.aws import AWS, REGION
from tests.kms.aws.conftest import PATIENT, Chain

HEAD = Checkpoint(origin="lacre-audit/shop/prod/2026-11", size=1, root=bytes(32))


def settings(moto: AWS, chain: Chain) -> AwsSettings:
    chain.write(moto.admin)
    return AwsSettings.model_validate(
        {"regions": [REGION], "endpoint_url": moto.endpoint, "profile": chain.name(moto.admin), "allow_static_keys": True}
    )  # fmt: skip


def made(moto: AWS, spec: str) -> str:
    return str(moto.client().create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"])


def uri(arn: str) -> str:
    _, _, _, region, account, key = arn.split(":")
    return f"aws-kms://{region}/{account}/{key}"


def test_a_kms_key_signs_checkpoints(moto: AWS, chain: Chain) -> None:
    """A checkpoint signed by a P-256 key of KMS is believed by its public text alone."""
    signer = AwsSigner(settings(moto, chain), uri(made(moto, "ECC_NIST_P256")), limits=PATIENT)
    note = sign_checkpoint(HEAD, signer)

    assert read_checkpoint(note, [Verifier.from_text(signer.verifier.to_text())]) == HEAD


def test_an_alias_that_was_moved_signs_nothing(moto: AWS, chain: Chain) -> None:
    """After an alias points to another key, signing fails: the signature is not of the key that is believed."""
    kms = moto.client()
    kms.create_alias(AliasName="alias/audit-moved", TargetKeyId=made(moto, "ECC_NIST_P256"))
    signer = AwsSigner(
        settings(moto, chain), f"aws-kms://{REGION}/alias/audit-moved", limits=PATIENT
    )
    sign_checkpoint(HEAD, signer)
    kms.update_alias(AliasName="alias/audit-moved", TargetKeyId=made(moto, "ECC_NIST_P256"))

    with pytest.raises(Tampered):
        sign_checkpoint(HEAD, signer)


def test_other_curves_do_not_sign(moto: AWS, chain: Chain) -> None:
    """A key of P-384 is refused when it is opened, not when the first checkpoint is due."""

    with pytest.raises(ConfigurationError, match="ECDSA_SHA_256"):
        AwsSigner(settings(moto, chain), uri(made(moto, "ECC_NIST_P384")), limits=PATIENT)
