# SPDX-License-Identifier: Apache-2.0
"""
`lacre serve`: the dashboard, as the local operator.

Opens no key. The operator's identity is opened to know who acknowledges alerts, and forgotten.
Link and address go to stdout, or the link to a file where stdout is kept by somebody.
"""

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lacre.application import Lacre
from lacre.cli.models import load_models
from lacre.cli.operator import Config, PassphraseFile, load_operator
from lacre.cli.reading import named
from lacre.cli.sweeping import sweeper_of, tables_for
from lacre.cli.terminal import out, say, warn
from lacre.errors import ConfigurationError, MisuseError
from lacre.jobs.coverage import Coverage
from lacre.jobs.pace import Pace
from lacre.policy.loading import load_policy

if TYPE_CHECKING:
    from lacre.dashboard.sources import Sources

__all__ = ["serve"]

_EVERY = 15 * 60.0  # seconds between two counts of values


def serve(
    config: Path = Config,
    host: str = typer.Option("127.0.0.1", "--host", help="the address to listen at"),
    port: int = typer.Option(8321, "--port", min=1, max=65535, help="its port"),
    beyond: bool = typer.Option(False, "--beyond-this-machine", help="allow a --host that other machines reach"),
    public_url: str | None = typer.Option(None, "--public-url", help="as browsers know it behind a reverse proxy, which terminates TLS: https://evidence.example.org/lacre"),
    link_file: Path | None = typer.Option(None, "--link-file", help="write the login link to this file, readable by you only, and not to stdout"),
    read_only: bool = typer.Option(False, "--read-only", help="nobody acknowledges alerts here; needs no operator identity"),
    models: list[str] = typer.Option([], "--models", help="MODULE:NAME of your declarative base: count which keys values are under, every 15 minutes"),
    database: str = typer.Option("", "--database", help="the database of these models; it is read only"),
    of_store: str = typer.Option("main", "--store", help="the database's logical name, of [stores.NAME]"),
    passphrase_file: Path | None = PassphraseFile,
) -> None:  # fmt: skip
    """Show the policy, the keys and the evidence in a browser, and acknowledge alerts. Ends with Ctrl-C."""
    try:
        from lacre.dashboard.place import Place
        from lacre.dashboard.serving import serve as run
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{error.name} is not installed", hint="pip install 'lacre[dashboard]'"
        ) from None
    place = Place(host=host, port=port, public=public_url)
    if not place.loopback:
        if not beyond:
            raise ConfigurationError(
                f"other machines reach {host}, and between them and it nothing is encrypted",
                hint="leave --host out and put a reverse proxy with TLS before it (--public-url), or say --beyond-this-machine",
            )
        warn(f"other machines reach {host}:{port}; without a proxy that terminates TLS, cookies and evidence go in the clear")  # fmt: skip
    with ExitStack() as held:
        sources = _opened(held, config, passphrase_file, read_only, models, database, of_store)
        say(f"the dashboard of {sources.policy.file.app} {sources.policy.file.env}; Ctrl-C ends it")

        def linked(link: str) -> None:
            if link_file is None:
                out.print(link)
                say("this link logs in once, within 15 minutes; the next one follows when it was used")  # fmt: skip
            else:
                _kept(link_file, link)
                say(f"a link to log in with is in {link_file}")

        run(sources, place=place, linked=linked)


def _opened(
    held: ExitStack,
    config: Path,
    passphrase_file: Path | None,
    read_only: bool,
    models: list[str],
    database: str,
    of_store: str,
) -> "Sources":
    from lacre.dashboard.counting import Counting
    from lacre.dashboard.sources import Sources

    if bool(models) != bool(database):
        raise MisuseError("--models and --database go together", hint="lacre serve --models shop.models:Base --database postgresql://db/shop")  # fmt: skip
    policy = load_policy(config, os.environ)
    operator = None
    if policy.local.operator is not None and not read_only:
        operator = load_operator(policy, config.resolve().parent, passphrase_file).name
    coverage = None
    if database:
        named(database)  # refuses a password
        loaded = load_models(models)
        lacre = held.enter_context(Lacre.load(config))
        tables, _ = tables_for(lacre, loaded, database, of_store, None)

        def count() -> Sequence[Coverage]:
            sweeper = sweeper_of(lacre, database, tenant=None, before=None, pace=Pace())
            return [covered for each in tables for covered in sweeper.survey(each)]

        coverage = held.enter_context(Counting(count, every=_EVERY))
    sources = Sources.load(config, operator=operator, coverage=coverage)
    held.callback(sources.close)
    return sources


def _kept(path: Path, link: str) -> None:
    # Of nobody else, from its first byte on; a file that was there is replaced, not followed.
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(link + "\n")
