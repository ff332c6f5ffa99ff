# SPDX-License-Identifier: Apache-2.0
"""
Who the command line is: the local operator identity, and the application it opens as that.

The passphrase comes from a file or a prompt, never from an argument or the environment.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from lacre.application import Lacre
from lacre.context import acting_as
from lacre.errors import ConfigurationError
from lacre.evidence import keep_key_evidence
from lacre.kms.local import Identity, KeystoreAdministration, PublicIdentity
from lacre.policy.loading import load_policy
from lacre.policy.model import PolicyFile
from lacre.stores.opening import open_key_store
from lacre.stores.sql import SQLKeyStore

__all__ = [
    "Config",
    "Operator",
    "PassphraseFile",
    "as_operator",
    "key_store",
    "keystore_directory",
    "load_operator",
    "passphrase_of",
    "read_passphrase",
]

Config = typer.Option(
    "lacre.toml", "--config", "-c", envvar="LACRE_CONFIG", help="the policy file", show_default=True
)
PassphraseFile = typer.Option(
    None,
    "--passphrase-file",
    help="where the operator's passphrase is, one line; without it you are asked",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """The operator at work: its identity, and the application opened with it."""

    identity: Identity
    lacre: Lacre
    store: SQLKeyStore
    base: Path

    def recipients(self) -> list[PublicIdentity]:
        """Return the identities that may open KMS keys, as lacre.toml names them."""
        return [PublicIdentity.from_text(line) for line in self.lacre.policy.file.local.recipients]

    def keystore(self) -> KeystoreAdministration:
        """Return the administration of the local keystore, signed by this operator."""
        return KeystoreAdministration(
            keystore_directory(self.lacre.policy.file, self.base),
            keystore_id=self.store.keystore_id,
            signer=self.identity,
            signers=self.lacre.signers,
            memory=self.store,
        )


def key_store(config: Path) -> tuple[SQLKeyStore, PolicyFile]:
    """Return the key store and the policy, without opening any key."""
    policy = load_policy(config, os.environ)
    settings = policy.key_store
    return open_key_store(settings.url, config.resolve().parent, schema=settings.schema_), policy


def keystore_directory(policy: PolicyFile, base: Path) -> Path:
    """Return where the local keystore is, or raise `ConfigurationError` where there is none."""
    if policy.local.directory is None:
        raise ConfigurationError(
            "lacre.toml names no local keystore", hint='[local] directory = "lacre/keystore"'
        )
    return base / policy.local.directory


def load_operator(policy: PolicyFile, base: Path, passphrase_file: Path | None) -> Identity:
    """Return the identity named in `[local] operator`."""
    if policy.local.operator is None:
        raise ConfigurationError(
            "lacre.toml names no operator identity",
            hint='[local] operator = "lacre/identities/operator.key", on the operator\'s machine only',
        )
    path = base / policy.local.operator
    return Identity.load(path, passphrase_of(path, passphrase_file))


@contextmanager
def as_operator(
    config: Path, passphrase_file: Path | None, *, purpose: str, moving_from: str | None = None
) -> Iterator[Operator]:
    """
    Open the application as the operator named in `[local] operator`, and act as it.

    Args:
        moving_from: the `kms_keys` of before, under which keys are opened too.
    """
    store, policy = key_store(config)
    base = config.resolve().parent
    identity = load_operator(policy, base, passphrase_file)
    opened = Lacre.load(config, identity=identity, moving_from=moving_from)
    try:
        keep_key_evidence(store, policy, opened.stamp)
        with opened as lacre, _acting(identity, purpose):
            yield Operator(identity=identity, lacre=lacre, store=store, base=base)
    finally:
        store.close()


def _acting(identity: Identity, purpose: str) -> acting_as:
    # Across the yield: the block is the command's, which runs in the consumer of this generator.
    return acting_as(identity.name, roles={"operator"}, purpose=purpose, across_yield=True)


def read_passphrase(path: Path) -> str:
    """
    Return the first line of the file at *path*.

    Raises:
        ConfigurationError: it cannot be read, or is empty.
    """
    try:
        line = path.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"the passphrase file {path} cannot be read") from None
    if not line:
        raise ConfigurationError(
            f"the passphrase file {path} is empty", hint="its first line is the passphrase"
        )
    return line


def passphrase_of(path: Path, passphrase_file: Path | None) -> str | None:
    """Return the passphrase of the identity at *path*, from the file or from who is asked; None where it has none."""
    if not Identity.is_protected(path):
        return None
    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "the operator's identity has a passphrase and nobody can be asked for it here",
            hint="--passphrase-file FILE",
        )
    asked: str = typer.prompt("operator's passphrase", hide_input=True, err=True)
    return asked
