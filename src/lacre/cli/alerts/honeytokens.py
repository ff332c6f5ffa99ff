# SPDX-License-Identifier: Apache-2.0
"""`lacre honeytoken create | list | retire`: rows that nobody has business with."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lacre.audit.event import who
from lacre.audit.honeytokens import KEY_SIZE, SUBJECT, mark
from lacre.audit.keeping import HoneytokenPlanted
from lacre.cli.alerts.opening import Watched, watched
from lacre.cli.models import Models, load_models
from lacre.cli.operator import Config, PassphraseFile, as_operator
from lacre.cli.reading import Database, changing
from lacre.cli.terminal import data, out, say, table
from lacre.context import current
from lacre.errors import ConfigurationError, MisuseError
from lacre.kms.local.files import read_private, write_private
from lacre.stores.log.alerts import microseconds
from lacre.stores.log.honeytokens import HoneytokenStore

if TYPE_CHECKING:
    from lacre.application import Lacre
    from lacre.sqlalchemy.planting import Place, Planter

__all__ = ["app", "honeytoken_key"]

_AHEAD = 3600.0  # seconds: what planting itself leaves is not to be taken for a touch
_Model = typer.Argument(help="the name of the mapped class, for example Customer")

app = typer.Typer(no_args_is_help=True, help="Rows that nobody has business with.")


@app.callback()
def about() -> None:
    """Rows that nobody has business with: who touches one is looking around."""


@app.command()
def create(
    model: str = _Model,
    models: list[str] = Models,
    database: str = Database,
    values: Path | None = typer.Option(None, "--values", help="a file of JSON: what attributes are to hold; the others are guessed"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Plant a row that looks real. Where it is, is kept nowhere: only a keyed mark of its place."""
    given = {} if values is None else _read(values)
    with (
        watched(config) as opened,
        as_operator(config, passphrase_file, purpose="honeytoken") as operator,
        changing(database) as engine,
    ):
        store = HoneytokenStore(opened.log)
        key = honeytoken_key(opened, make=not store.all())
        planter = _planter(operator.lacre, engine, models, model)
        token = os.urandom(4).hex()

        def keep(place: "Place") -> None:
            person = None
            if place.subject is not None:
                name = operator.lacre.pseudonym(place.subject, tenant=place.tenant)
                person = mark(key, store=SUBJECT, table=SUBJECT, row=name or "")
            made = mark(key, store=place.store, table=place.table, row=place.row)
            store.add(token, mark=made, subject=person, since=microseconds(time.time() + _AHEAD))

        planter.plant(given, keep)
        _record(operator.lacre, "planted", token, planter)
        operator.lacre.flush()
        store.stands(token, since=microseconds(time.time()))
    if as_json:
        data({"token": token})
    else:
        out.print(token)
    say(f"planted in {planter.table}; which row it is, nobody can tell without {opened.policy.honeytokens.key_file}")  # fmt: skip


@app.command("list")
def list_tokens(
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """List honeytokens by name, without where they are."""
    with watched(config) as opened:
        planted = HoneytokenStore(opened.log).all()
    rows = [
        [each.token, datetime.fromtimestamp(each.since / 1e6, UTC).isoformat(timespec="seconds")]
        for each in planted
    ]
    if as_json:
        data([dict(zip(("token", "planted"), row, strict=True)) for row in rows])
    elif rows:
        out.print(table(("token", "planted"), rows))
    say(f"{len(rows)} planted")


@app.command()
def retire(
    token: str = typer.Argument(help="its name"),
    model: str = _Model,
    models: list[str] = Models,
    database: str = Database,
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """Delete a planted row, and forget its mark."""
    with (
        watched(config) as opened,
        as_operator(config, passphrase_file, purpose="honeytoken") as operator,
        changing(database) as engine,
    ):
        store = HoneytokenStore(opened.log)
        wanted, key = store.mark_of(token), honeytoken_key(opened, make=False)
        planter = _planter(operator.lacre, engine, models, model)
        there = planter.remove(
            lambda row: mark(key, store=planter.store, table=planter.table, row=row) == wanted
        )
        if not there:
            raise MisuseError(
                f"no row of {planter.table} is the honeytoken {token}; nothing was changed",
                hint="name the model and the database it was planted in",
            )
        # The row first: a mark without a row harms nobody.
        store.remove(token)
        _record(operator.lacre, "retired", token, planter)
    say(f"{token} is gone from {planter.table}")


def honeytoken_key(opened: Watched, *, make: bool) -> bytes:
    """
    Return the key of the marks.

    Args:
        make: make it, if there is none: it is made once, with the first honeytoken.

    Raises:
        ConfigurationError: there is none, others may read it, or it is no key.
    """
    path = opened.base / opened.policy.honeytokens.key_file
    if make and not path.exists():
        write_private(path, os.urandom(KEY_SIZE), replace=False)
    key = read_private(path)
    if len(key) != KEY_SIZE:
        raise ConfigurationError(
            f"{path} is no key of honeytokens",
            hint="restore it from where it was copied to; without it no honeytoken is recognised",
        )
    return key


def _planter(lacre: "Lacre", engine: Any, models: list[str], name: str) -> "Planter":
    from sqlalchemy.orm import sessionmaker

    from lacre.sqlalchemy.mapped import mappers_of
    from lacre.sqlalchemy.planting import Planter

    mappers = {each.class_.__name__: each for each in mappers_of(load_models(models))}
    if name not in mappers:
        raise ConfigurationError(
            f"--models has no class {name}", hint=f"it has {', '.join(sorted(mappers))}"
        )
    return Planter(lacre.sqlalchemy(sessionmaker(engine)), mappers[name])


def _record(lacre: "Lacre", step: str, token: str, planter: "Planter") -> None:
    acting = current()
    event = HoneytokenPlanted(
        **who(acting, time=time.time(), tenant=acting.tenant or ""),
        step=step,
        token=token,
        store=planter.store,
        table=planter.table,
    )
    lacre.recorder.write([event])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{path} is no JSON object", hint='{"city": "Recife", "status": "closed"}'
        )
    return found
