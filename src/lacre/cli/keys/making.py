# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys create`, `activate` and `rotate`: minting and activating, in one step or in two.

Which credential is at work is the key service's to say: the same command leaves keys pending where
it may only mint, and finishes them where it may unwrap.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import cast

import typer

from lacre.cli.keys.subjects import rotate_subject
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import say, warn
from lacre.errors import ConfigurationError, KeyServiceDenied
from lacre.keys.below import Below
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.kms_keys import scheme_of
from lacre.keys.ports import KmsKeyAdministration
from lacre.keys.resolver import service_of
from lacre.stores.sql import SQLKeyStore

__all__ = ["activate", "create", "rotate", "take_over"]

_NAMED = 10  # keys that do not open, which are named
_Class = typer.Option(None, "--class", help="of one class; of every class without it")
_Anew = typer.Option(
    False,
    "--anew",
    help="mint although pending keys wait that this credential cannot open, because they were planted or lost",
)


class Rotated(StrEnum):
    """What `rotate` makes a new version of."""

    DATA = "data"
    BRANCH = "branch"
    INDEX = "index"
    KMS = "kms"
    SUBJECT = "subject"


def create(
    tenant: str = typer.Option(..., help="whose keys"),
    class_: str | None = _Class,
    anew: bool = _Anew,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Provision a tenant: a branch key, a data key and an index root for each class.

    With a credential that may mint and not unwrap, keys stay pending until somebody who may
    unwrap runs `lacre keys activate`.
    """
    with as_operator(config, passphrase_file, purpose="provisioning") as operator:
        lacre, made = operator.lacre, []
        for name in _classes(operator, class_):
            made += lacre.provisioner.create(
                lacre.scope(tenant, name),
                indexed=lacre.policy.class_(name).index is not None,
                anew=anew,
            )
    _tell("created", made)
    if any(row.state is KeyState.PENDING for row in made):
        of_class = f" --class {class_}" if class_ else ""
        say("pending keys encrypt nothing yet: this credential may mint them and not open them")
        say(f"next, with a credential that may unwrap: lacre keys activate --tenant {tenant}{of_class}")  # fmt: skip
    if not made:
        say(f"nothing to do: tenant {tenant} has its keys")


def activate(
    tenant: str = typer.Option(..., help="whose keys"),
    class_: str | None = _Class,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Activate what a credential that only mints left pending: first keys, and rotated ones."""
    with as_operator(config, passphrase_file, purpose="provisioning") as operator:
        lacre, made = operator.lacre, []
        for name in _classes(operator, class_):
            made += lacre.provisioner.activate(
                lacre.scope(tenant, name), indexed=lacre.policy.class_(name).index is not None
            )
        waits = [lacre.provisioner.settles_in(row) for row in made if row.state is KeyState.PENDING]
    _tell("activated", made)
    if waits:
        say(f"not every process knows of these index roots yet: run the same command again in {max(waits):.0f} s")  # fmt: skip
    if not made:
        say(f"nothing to do: nothing of tenant {tenant} waits for activation")


def rotate(
    class_: str = typer.Option(..., "--class", help="of which class"),
    kind: Rotated = typer.Option(
        Rotated.DATA, help="which key: data, branch, index, one subject's, or the KMS keys themselves"
    ),
    tenant: str | None = typer.Option(None, help="of which tenant; the default tenant without it"),
    subject: str | None = typer.Option(None, help="with --kind subject: whose, as the column of subject= holds it; or key:ID, whosever that key is"),
    unreadable: bool = typer.Option(False, "--unreadable", help="with --kind subject: destroy the present version, which does not open"),
    anew: bool = _Anew,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """
    Make a new version, which is used from now on. Older versions decrypt on; no data is touched.

    Processes that run see it within their cache age. An index root is rotated by the same
    command twice, one cache age apart: the first announces it, the second activates it.
    Look-ups then ask for tokens of every version until the rows are re-indexed.
    """
    with as_operator(config, passphrase_file, purpose="rotation") as operator:
        if kind is Rotated.KMS:
            _rotate_kms(operator, class_)
            return
        if kind is Rotated.SUBJECT:
            rotate_subject(operator, class_, tenant, subject, unreadable=unreadable)
            return
        whose = tenant or operator.lacre.policy.file.default_tenant
        if whose is None:
            raise ConfigurationError(
                "no tenant was named and lacre.toml has no default", hint="--tenant NAME"
            )
        scope = operator.lacre.scope(whose, class_, KeyKind(kind.value))
        row = operator.lacre.provisioner.rotate(scope, anew=anew)
        age = operator.lacre.policy.file.cache.age
        if kind is Rotated.BRANCH and row.state is KeyState.ACTIVE:
            take_over(operator, [scope])
    if row.state is KeyState.ACTIVE:
        say(f"rotated: {row.scope}, now version {row.version} ({row.key_id.hex()[:8]})")
        say(f"running processes use it within {age:.0f} s")
        if kind is Rotated.INDEX:
            warn(
                "rows written before keep their tokens, and look-ups ask under both versions: next, lacre reencrypt --indexes, then lacre keys destroy of the version before"
            )
    elif kind is Rotated.INDEX:
        say(f"announced: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
        say(
            f"when every process knows of it, in {age:.0f} s, run the same command again: that activates it"
        )
    else:
        _tell("pending", [row])
        say("the version before stays active: this credential may mint a key and not open it")
        say(f"next, with a credential that may unwrap: lacre keys activate --tenant {whose} --class {class_}")  # fmt: skip


def take_over(operator: Operator, scopes: Iterable[Scope]) -> int:
    """Wrap the subject keys of each scope's tenant and class under its present branch key; return how many do not open."""
    lacre, unreadable = operator.lacre, 0
    lacre.resolver.forget()  # what was the active one a moment ago
    below = Below(store=cast(SQLKeyStore, lacre.store), resolver=lacre.resolver)
    for scope in scopes:
        done = below.take_over(scope)
        if done.moved or done.left:
            whose = f"of tenant {scope.tenant!r}, class {scope.class_!r}"
            say(f"wrapped {done.moved:,} subject keys {whose} under the new branch key; no value was touched")  # fmt: skip
        if done.left:
            warn(f"{done.left:,} were changed meanwhile: lacre keys rewrap --subjects does them")
        if done.unreadable:
            unreadable += len(done.unreadable)
            warn(f"{len(done.unreadable):,} subject keys of tenant {scope.tenant!r}, class {scope.class_!r}, do not open, and stay as they are: planted, or the key store is damaged")  # fmt: skip
            for key in done.unreadable[:_NAMED]:
                say(f"lacre keys rotate --class {scope.class_} --kind subject --subject key:{key.hex()} --unreadable makes the next, if no backup has the right one")  # fmt: skip
    return unreadable


def _classes(operator: Operator, class_: str | None) -> Sequence[str]:
    return [class_] if class_ is not None else sorted(operator.lacre.policy.file.classes)


def _tell(done: str, rows: Sequence[KeyRow]) -> None:
    for row in rows:
        word = "pending" if row.state is KeyState.PENDING else done
        say(f"{word}: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")


def _rotate_kms(operator: Operator, class_: str) -> None:
    lacre = operator.lacre
    indexed = lacre.policy.class_(class_).index is not None
    for kind in (KeyKind.BRANCH, KeyKind.INDEX) if indexed else (KeyKind.BRANCH,):
        scope = lacre.scope("any", class_, kind)
        uri = lacre.policy.kms_key(scope)
        if scheme_of(uri) == "local":
            keystore, name = operator.keystore(), uri.removeprefix("local://")
            following: int | None = keystore.manifest(name).newest.number + 1
            lacre.provisioner.record_kms(scope, version=following or 0, state=KeyState.ACTIVE)
            keystore.rotate_key(name, operator.recipients())
        else:
            service = cast(KmsKeyAdministration, service_of(lacre.services, uri))
            # Recorded before it is made, and so before its number is known.
            lacre.provisioner.record_kms(scope, version=0, state=KeyState.ACTIVE)
            try:
                following = service.rotate(uri)
            except KeyServiceDenied as error:
                raise KeyServiceDenied(
                    f"rotating a KMS key takes the right to administer it: {error}",
                    hint=error.hint or "use the credential that administers KMS keys",
                ) from None
        numbered = f", now version {following}" if following is not None else ""
        say(f"rotated: {uri}{numbered}; keys wrapped before still open under their version")
    say(f"next: lacre keys rewrap --class {class_} wraps them under the new version")
