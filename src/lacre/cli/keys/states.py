# SPDX-License-Identifier: Apache-2.0
"""`lacre keys disable`, `enable` and `compromised`: one key at a time."""

from pathlib import Path

import typer

from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import say
from lacre.errors import ConfigurationError, KeyNotFound
from lacre.keys.hierarchy import KeyRow, KeyState

__all__ = ["compromised", "disable", "enable", "found", "show"]


def disable(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Stop a key from being used, reversibly. Values under it cannot be read until it is enabled."""
    _step(key, config, passphrase_file, KeyState.DISABLED)


def enable(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Bring a disabled key back."""
    with as_operator(config, passphrase_file, purpose="key state") as operator:
        row = operator.lacre.provisioner.enable(found(operator, key).key_id)
    say(f"{row.state}: {row.scope}, version {row.version}")


def compromised(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Say that somebody else may know a key: it is used no more, for good. Only `lacre reencrypt` opens what it holds.

    Rotate it first, so that there is a key to move its values to.
    """
    _step(key, config, passphrase_file, KeyState.COMPROMISED)


def _step(key: str, config: Path, passphrase_file: Path | None, state: KeyState) -> None:
    with as_operator(config, passphrase_file, purpose="key state") as operator:
        row = operator.lacre.provisioner.step(found(operator, key).key_id, state)
    show(row)


def show(row: KeyRow) -> None:
    """Say where a step led."""
    say(f"{row.state}: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
    say("processes that run stop using it within their cache age")


def found(operator: Operator, key: str) -> KeyRow:
    """Return the key that *key* names."""
    if len(key) < 8:
        raise ConfigurationError(
            "a key is named by its id or its first 8 digits or more",
            hint="`lacre keys list` shows them",
        )
    rows = [row for row in operator.store.rows() if row.key_id.hex().startswith(key.lower())]
    if not rows:
        raise KeyNotFound(f"the key store holds no key {key}", hint="`lacre keys list` shows them")
    if len(rows) > 1:
        raise ConfigurationError(f"{len(rows)} keys begin with {key}", hint="give more digits")
    return rows[0]
