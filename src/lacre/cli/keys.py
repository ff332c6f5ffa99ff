# SPDX-License-Identifier: Apache-2.0
"""`lacre keys`: list, due, create, rotate, disable, enable, destroy."""

import datetime as dt
import sys
from enum import StrEnum
from pathlib import Path

import typer

from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator, key_store
from lacre.cli.terminal import DUE, data, out, say, table, warn
from lacre.errors import ConfigurationError, KeyNotFound, MisuseError
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.rotation import due

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Wrapped keys: who has which, and their life.")


class Rotated(StrEnum):
    """What `rotate` makes a new version of."""

    DATA = "data"
    BRANCH = "branch"
    INDEX = "index"
    KMS = "kms"


@app.command("list")
def list_keys(
    config: Path = Config,
    tenant: str | None = typer.Option(None, help="of this tenant only"),
    class_: str | None = typer.Option(None, "--class", help="of this class only"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """List every key of the key store. Opens none."""
    store, _ = key_store(config)
    rows = [
        row
        for row in store.rows()
        if tenant in (None, row.scope.tenant) and class_ in (None, row.scope.class_)
    ]
    if as_json:
        data([_described(row) for row in rows])
        return
    if not rows:
        say("no keys; `lacre keys create --tenant NAME` makes some")
        return
    described = [_described(row) for row in rows]
    columns = ("tenant", "class", "kind", "#version", "state", "created", "key", "wrapped by")
    out.print(
        table(
            columns,
            [
                [str(d[k]) for k in ("tenant", "class", "kind", "version", "state", "created")]
                + [str(d["key"])[:8], _short(str(d["parent"]))]
                for d in described
            ],
        )
    )


@app.command("due")
def due_keys(
    config: Path = Config,
    within: int = typer.Option(30, min=0, max=36500, help="report what is due in so many days"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Say what has to be rotated, finished or looked at. Exits 10 where there is anything."""
    store, policy = key_store(config)
    classes = policy.classes

    def period(row: KeyRow) -> dt.timedelta | None:
        declared = classes.get(row.scope.class_)
        if declared is None:  # a class that lacre.toml no longer has
            return None
        return declared.rotate_index_after if row.scope.kind is KeyKind.INDEX else declared.rotate_after  # fmt: skip

    found = due(
        store.rows(), period=period, now=dt.datetime.now(dt.UTC), within=dt.timedelta(days=within)
    )
    store.close()
    described = [
        _described(item.row)
        | {
            "urgency": str(item.urgency),
            "why": item.why,
            "do": item.do,
            "by": item.by.date().isoformat() if item.by else None,
        }
        for item in found
    ]
    if as_json:
        data(described)
    elif found:
        columns = ("urgency", "tenant", "class", "kind", "version", "why")
        rows = [[str(d[name]) for name in columns] for d in described]
        out.print(table([f"#{name}" if name == "version" else name for name in columns], rows))
        for step in dict.fromkeys(item.do for item in found):
            say(f"next: {step}")
    if not found:
        say(f"nothing is due within {within} days")
        return
    raise typer.Exit(DUE)


@app.command()
def create(
    tenant: str = typer.Option(..., help="whose keys"),
    class_: str | None = typer.Option(
        None, "--class", help="of one class; of every class without it"
    ),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Provision a tenant: a branch key, a data key and an index root for each class."""
    with as_operator(config, passphrase_file, purpose="provisioning") as operator:
        classes = [class_] if class_ is not None else sorted(operator.lacre.policy.file.classes)
        made = [row for name in classes for row in operator.lacre.create_keys(tenant, name)]
    for row in made:
        say(f"created: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
    if not made:
        say(f"nothing to do: tenant {tenant} has its keys")


@app.command()
def rotate(
    class_: str = typer.Option(..., "--class", help="of which class"),
    kind: Rotated = typer.Option(
        Rotated.DATA, help="which key: data, branch, index, or the KMS keys themselves"
    ),
    tenant: str | None = typer.Option(None, help="of which tenant; the default tenant without it"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
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
        whose = tenant or operator.lacre.policy.file.default_tenant
        if whose is None:
            raise ConfigurationError(
                "no tenant was named and lacre.toml has no default", hint="--tenant NAME"
            )
        row = operator.lacre.provisioner.rotate(
            operator.lacre.scope(whose, class_, KeyKind(kind.value))
        )
        age = operator.lacre.policy.file.cache.age
        if row.state is KeyState.PENDING:
            say(f"announced: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
            say(
                f"when every process knows of it, in {age:.0f} s, run the same command again: that activates it"
            )
            return
        say(f"rotated: {row.scope}, now version {row.version} ({row.key_id.hex()[:8]})")
        say(f"running processes use it within {age:.0f} s")
        if kind is Rotated.INDEX:
            warn(
                "rows written before keep their tokens: look-ups ask under both versions, and unique values are compared across them by look-up"
            )


def _rotate_kms(operator: Operator, class_: str) -> None:
    keystore = operator.keystore()
    indexed = operator.lacre.policy.class_(class_).index is not None
    for kind in (KeyKind.BRANCH, KeyKind.INDEX) if indexed else (KeyKind.BRANCH,):
        scope = operator.lacre.scope("any", class_, kind)
        uri = operator.lacre.policy.kms_key(scope)
        name = uri.removeprefix("local://")
        following = keystore.manifest(name).newest.number + 1
        operator.lacre.provisioner.record_kms(scope, version=following, state=KeyState.ACTIVE)
        keystore.rotate_key(name, operator.recipients())
        say(
            f"rotated: {uri}, now version {following}; keys wrapped before still open under their version"
        )


@app.command()
def disable(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Stop a key from being used, reversibly. Values under it cannot be read until it is enabled."""
    _step(key, config, passphrase_file, KeyState.DISABLED)


@app.command()
def enable(
    key: str = typer.Argument(help="the key's id, or its first 8 digits"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Bring a disabled key back."""
    with as_operator(config, passphrase_file, purpose="key state") as operator:
        row = operator.lacre.provisioner.enable(_found(operator, key).key_id)
    say(f"{row.state}: {row.scope}, version {row.version}")


@app.command()
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
        if not yes:
            _confirm(row)
        row = operator.lacre.provisioner.step(row.key_id, state)
    say(f"{row.state}: {row.scope}, version {row.version} ({row.key_id.hex()[:8]})")
    say("processes that run stop using it within their cache age")
    if state is KeyState.DESTROYED:
        warn(
            "backups of the key store made before now still hold the wrapped key, until they expire"
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


def _described(row: KeyRow) -> dict[str, object]:
    return {
        "key": row.key_id.hex(),
        "tenant": row.scope.tenant,
        "class": row.scope.class_,
        "kind": str(row.scope.kind),
        "version": row.version,
        "state": str(row.state),
        "created": row.created,
        "changed": row.changed,
        "parent": row.parent,
    }


def _short(parent: str) -> str:
    return parent if "://" in parent else parent[:8]
