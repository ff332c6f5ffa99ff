# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys pin`: which key each alias of lacre.toml stands for, written to lacre.lock for review.

Nothing is ever wrapped under an alias, which anyone with `kms:UpdateAlias` can move. A pin that
would change is a change of the key that data is encrypted under, and is not made unasked.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, cast

import typer

from lacre.audit.event import who
from lacre.audit.events import KeyChanged
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.terminal import data, out, say
from lacre.context import current
from lacre.errors import MisuseError
from lacre.keys.kms_keys import is_alias
from lacre.keys.resolver import service_of
from lacre.policy.loading import LOCK, load_pins, lock_text
from lacre.policy.model import PolicyFile

__all__ = ["aliases_of", "pin"]


class Resolving(Protocol):
    """A key service that has aliases."""

    def resolve(self, alias: str) -> str:
        """Return the URI of the key that the alias stands for now."""
        ...


def pin(
    yes: bool = typer.Option(False, "--yes", help="change pins that are there already"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Ask the key service which key each alias stands for, and write lacre.lock."""
    with as_operator(config, passphrase_file, purpose="pin") as operator:
        aliases = aliases_of(operator.lacre.policy.file)
        pins = load_pins(config)
        found = {
            alias: cast(Resolving, service_of(operator.lacre.services, alias)).resolve(alias)
            for alias in aliases
        }
        changed = {alias: key for alias, key in found.items() if pins.get(alias) != key}
        moved = sorted(alias for alias in changed if alias in pins)
        _show(pins, found, as_json=as_json)
        if moved and not yes:
            raise MisuseError(
                f"{len(moved)} aliases stand for another key than {LOCK} says; nothing was changed",
                hint="find out who moved them; --yes pins them anew, and keys under the old ones then need `lacre keys rewrap`",
            )
        if changed or set(pins) - set(found):
            operator.lacre.recorder.write(
                [
                    KeyChanged(
                        **who(current(), time=time.time(), tenant=""),
                        class_="", kind="kms", key=key, version=0, state="pinned",
                    )
                    for key in changed.values()
                ]
            )  # fmt: skip
            _write(config.resolve().parent / LOCK, lock_text(found))
            say(f"wrote {LOCK}: review it, and deploy it beside lacre.toml")
        else:
            say("nothing to do: every alias is pinned to what it stands for")


def aliases_of(file: PolicyFile) -> Sequence[str]:
    """Return the aliases that the policy names, those that keys come from too."""
    return sorted(uri for uri in file.named_keys() if is_alias(uri))


def _show(pins: Mapping[str, str], found: Mapping[str, str], *, as_json: bool) -> None:
    told = []
    for alias in sorted({*pins, *found}):
        before, now = pins.get(alias), found.get(alias)
        if now is None:
            change = "no longer named"
        elif before is None:
            change = "new"
        else:
            change = "as it was" if before == now else "MOVED"
        told.append((alias, before, now, change))
    if as_json:
        data([dict(zip(("alias", "pinned", "key", "change"), each, strict=True)) for each in told])
        return
    # Lines and not a table: URIs of AWS are long, and what is cut off may be what differs.
    for alias, before, now, change in told:
        out.print(f"{change:<15} {alias}", markup=False)
        for what, key in (("stands for", now), ("pinned to", before)):
            if key is not None:
                out.print(f"{'':<15} {what:<10} {key}", markup=False)


def _write(path: Path, text: str) -> None:
    # Whole or not at all: half a lock file would be pins that nobody reviewed.
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
