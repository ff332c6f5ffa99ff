# SPDX-License-Identifier: Apache-2.0
"""
Who signs a snapshot, and whose signatures on one are believed.

The operator by default; another local identity, as that of the log, where nobody is there to give
a passphrase. Believed are the signers of ``lacre.toml``, and those that whoever checks names.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lacre.application import Lacre
from lacre.audit.notes import Verifier
from lacre.cli.operator import key_store, load_operator
from lacre.context import acting_as
from lacre.kms.local import Identity, PublicIdentity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from lacre.policy.model import PolicyFile
from lacre.stores.sql import SQLKeyStore

__all__ = ["Reporter", "as_reporter", "believed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporter:
    """Whoever reports, at work."""

    identity: Identity
    lacre: Lacre
    store: SQLKeyStore
    config: Path

    @property
    def policy(self) -> PolicyFile:
        return self.lacre.policy.file

    @property
    def base(self) -> Path:
        return self.config.resolve().parent

    @property
    def signer(self) -> IdentitySigner:
        """What signs snapshots."""
        return IdentitySigner(self.identity)

    def by(self) -> dict[str, str]:
        """Return who that is, for the snapshot."""
        return {"name": self.identity.name, "key": self.signer.key_id.hex()}


@contextmanager
def as_reporter(
    config: Path, passphrase_file: Path | None, *, identity: Path | None, purpose: str
) -> Iterator[Reporter]:
    """
    Open the application as the operator, or as the identity in the file *identity*, and act as it.

    Raises:
        ConfigurationError: there is no such identity, or its passphrase is not there.
    """
    store, policy = key_store(config)
    base = config.resolve().parent
    mine = (
        load_operator(policy, base, passphrase_file)
        if identity is None
        else Identity.load(identity)
    )
    role = "operator" if identity is None else "auditor"
    # Across the yield: the block is the command's, which runs in the consumer of this generator.
    acting = acting_as(mine.name, roles={role}, purpose=purpose, across_yield=True)
    try:
        with Lacre.load(config, identity=mine) as lacre, acting:
            yield Reporter(identity=mine, lacre=lacre, store=store, config=config)
    finally:
        store.close()


def believed(policy: PolicyFile | None, named: Sequence[str]) -> list[Verifier]:
    """Return whose snapshots are believed: *named*, or the operators and signers of *policy*."""
    texts = list(named)
    if not texts and policy is not None:
        texts = [*policy.local.signers, *policy.audit.signers]
    return [
        verifier_of(PublicIdentity.from_text(text))
        if text.startswith("lacre-public-")
        else Verifier.from_text(text)
        for text in texts
    ]
