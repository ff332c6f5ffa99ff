# SPDX-License-Identifier: Apache-2.0
"""`lacre keys disable`, `enable`, `compromised` and `destroy`: one key at a time."""

import sys
from pathlib import Path

import typer

from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import say, warn
from lacre.errors import ConfigurationError, KeyNotFound, MisuseError, SubjectHeld
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState

__all__ = ["compromised", "destroy", "disable", "enable"]


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
        row = operator.lacre.provisioner.enable(_found(operator, key).key_id)
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


def destroy(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    yes: bool = typer.Option(False, "--yes", help="do not ask"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Destroy a key for good. What it protects can never be read again."""
    _step(key, config, passphrase_file, KeyState.DESTROYED, yes=yes)


def _step(
    key: str, config: Path, passphrase_file: Path | None, state: KeyState, *, yes: bool = True
) -> None:
    with as_operator(config, passphrase_file, purpose="key state") as operator:
        row = _found(operator, key)
        if state is KeyState.DESTROYED:
            _check_holds(operator, row)
        if row.scope.kind is KeyKind.INDEX and state is KeyState.DESTROYED:
            warn("rows whose index tokens are under this root alone are found no more, and their values may come twice: lacre reencrypt --indexes --check says whether any is left")  # fmt: skip
        if not yes:
            _confirm(row)
        row = operator.lacre.provisioner.step(row.key_id, state)
    say(f"{row.state}: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
    say("processes that run stop using it within their cache age")
    if state is KeyState.DESTROYED:
        warn(
            "backups of the key store made before now still hold the wrapped key, until they expire"
        )


def _check_holds(operator: Operator, row: KeyRow) -> None:
    held = operator.store.held_in(row.scope, under=row.key_id.hex())
    if held:
        raise SubjectHeld(
            f"{held} subjects whose keys are under this one are under a legal hold; nothing was destroyed",
            hint="lacre hold list",
        )


def _confirm(row: KeyRow) -> None:
    warn(
        f"this destroys the {row.scope}, version {row.version}: nothing it protects can be read again"
    )
    if not sys.stdin.isatty():
        raise MisuseError("nobody can be asked here", hint="--yes destroys without asking")
    if typer.prompt("type the first 8 digits of its id to go on", err=True) != row.key_id.hex()[:8]:
        raise MisuseError("that is not its id; nothing was done")


def _found(operator: Operator, key: str) -> KeyRow:
    if len(key) < 8:
        raise ConfigurationError(
            "a key is named by its id or its first 8 digits or more",
            hint="`lacre keys list` shows them",
        )
    found = [row for row in operator.store.rows() if row.key_id.hex().startswith(key.lower())]
    if not found:
        raise KeyNotFound(f"the key store holds no key {key}", hint="`lacre keys list` shows them")
    if len(found) > 1:
        raise ConfigurationError(f"{len(found)} keys begin with {key}", hint="give more digits")
    return found[0]
