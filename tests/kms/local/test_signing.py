# SPDX-License-Identifier: Apache-2.0
"""Local identities as signers of notes."""

import pytest

from lacre.audit.notes import Checkpoint, read_checkpoint, sign_checkpoint
from lacre.errors import MisuseError, Tampered
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of

HEAD = Checkpoint(origin="lacre-audit/shop/prod/2026-11", size=1, root=bytes(32))


def test_an_identity_signs_checkpoints() -> None:
    """A checkpoint that an identity signed is believed by its public text, and not by another of its name."""
    identity = Identity.create("svc:audit")
    note = sign_checkpoint(HEAD, IdentitySigner(identity))

    assert read_checkpoint(note, [verifier_of(identity.public)]) == HEAD
    with pytest.raises(Tampered):
        read_checkpoint(note, [verifier_of(Identity.create("svc:audit").public)])


def test_a_signer_of_notes_signs_nothing_of_another_use() -> None:
    """A text that begins as the labels of states, jobs and attestations do is not signed."""
    signer = IdentitySigner(Identity.create("svc:audit"))

    with pytest.raises(MisuseError):
        signer.sign(b"lacre/1/column\0\0")
