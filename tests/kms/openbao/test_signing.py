# SPDX-License-Identifier: Apache-2.0
"""Transit keys of a real OpenBao as signers of notes."""

import pytest

from lacre.audit.notes import Checkpoint, Verifier, read_checkpoint, sign_checkpoint
from lacre.errors import ConfigurationError
from tests.kms.openbao.conftest import Engine

HEAD = Checkpoint(origin="lacre-audit/shop/prod/2026-11", size=1, root=bytes(32))


def test_a_transit_key_signs_checkpoints(engine: Engine) -> None:
    """A checkpoint signed by an ed25519 key of the server is believed by its public text, after a rotation too."""
    client = engine.server.client()
    client.adapter.post(f"/v1/{engine.mount}/keys/audit", json={"type": "ed25519"})
    signer = engine.service().signer(f"openbao://{engine.mount}/audit")
    client.adapter.post(f"/v1/{engine.mount}/keys/audit/rotate")
    note = sign_checkpoint(HEAD, signer)
    rotated = engine.service().signer(f"openbao://{engine.mount}/audit")

    assert read_checkpoint(note, [Verifier.from_text(signer.verifier.to_text())]) == HEAD
    assert rotated.key_id != signer.key_id


def test_a_key_that_encrypts_does_not_sign(engine: Engine) -> None:
    """A key for values is refused as a signer."""

    with pytest.raises(ConfigurationError, match="no key that signs"):
        engine.service().signer(engine.pii)
