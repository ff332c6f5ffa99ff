# SPDX-License-Identifier: Apache-2.0
"""
The act of the demonstration on what becomes of a value: found by a part of it, moved to another key, erased.

What the operator does is what `lacre` does when it is typed. The backup that cannot be read at the
end is a copy of the key store and of the data from before the erasure.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa
from rich.text import Text
from sqlalchemy.orm import Session, sessionmaker

from lacre.application import Lacre
from lacre.cli.demo_application import Customer, Message
from lacre.cli.demo_stage import expect, line, refused, timed
from lacre.cli.terminal import out
from lacre.errors import KeyDestroyed, LacreError

__all__ = ["find_move_and_erase"]

T = TypeVar("T")

_SEALING = """
[sealing]
kms_key = "local://epochs"
classes = ["pii"]
every = "30 days"
"""
_MODELS = ("--models", "lacre.cli.demo_application:Base")
_CUSTOMERS = 400


def find_move_and_erase(directory: Path, command: Callable[[list[str]], None]) -> None:
    """Write messages under keys of each customer's own; find, re-encrypt and shred; try a backup. *command* runs `lacre`."""

    def lacre(words: Sequence[str], *, shown: Sequence[str]) -> None:
        out.print(Text("  $ lacre " + " ".join(shown), style="bold"))
        command(list(words))

    config, data, keys = (
        directory / "lacre.toml",
        directory / "shop.db",
        directory / "lacre/keys.db",
    )
    config.write_text(config.read_text(encoding="utf-8") + _SEALING, encoding="utf-8")
    database = ("--database", f"sqlite:///{data}", "--config", str(config))
    lacre(("seal", "--config", str(config)), shown=("seal",))
    _at_work(config, data, _write)
    _at_work(config, data, _find)
    lacre(
        ("reencrypt", "--class", "pii", *_MODELS, *database, "--yes"),
        shown=("reencrypt", "--class", "pii", *_MODELS, "--database", "sqlite:///shop.db"),
    )
    backup = directory / "backup"
    backup.mkdir()
    for path in (data, keys):
        shutil.copy2(path, backup)
    line("before", f"customer 1 wrote: {_at_work(config, data, _text_of(1))}")
    lacre(
        ("shred", "1", *_MODELS, *database, "--reason", "request 7", "--yes"),
        shown=(
            "shred",
            "1",
            *_MODELS,
            "--database",
            "sqlite:///shop.db",
            "--reason",
            "'request 7'",
        ),
    )
    line("after", refused(KeyDestroyed, lambda: _at_work(config, data, _text_of(1))))
    line("everybody else", f"customer 2 wrote: {_at_work(config, data, _text_of(2))}")
    _try_backup(config, backup, sealed=False)
    lacre(("seal", "--config", str(config)), shown=("seal",))
    _try_backup(config, backup, sealed=True)
    [certificate] = (directory / "lacre/certificates").glob("*.json")
    body = json.loads(certificate.read_text(encoding="utf-8").splitlines()[0])
    line("the certificate", f"{certificate.relative_to(directory)}, signed by the operator")
    line("erased from live at", body["erased_from_live_at"])


def _write(sessions: "sessionmaker[Session]") -> None:
    with sessions.begin() as session:
        Message.__table__.create(session.connection())  # type: ignore[attr-defined]
        people = session.execute(sa.select(Customer.id, Customer.name).limit(_CUSTOMERS)).all()
        session.add_all(
            Message(customer_id=each.id, author=each.name, text=f"Where is order {each.id}?")
            for each in people
        )


def _find(sessions: "sessionmaker[Session]") -> None:
    with sessions() as session:
        query = sa.select(Message).where(Message.author.contains("souz"))
        found, elapsed = timed(lambda: session.scalars(query).all())
        authors = sorted({message.author for message in found})
        expect("Ana Souza" in authors, "a part of a name finds it")
        expect(all("souz" in author.casefold() for author in authors), "and nothing else")
        line(
            "search by a part",
            f"souz → {len(found)} of {_CUSTOMERS} messages, by {', '.join(authors[:3])}, …  ({elapsed * 1e3:.1f} ms)",
        )


def _try_backup(config: Path, backup: Path, *, sealed: bool) -> None:
    restored = config.with_name("lacre-restored.toml")
    policy = config.read_text(encoding="utf-8")
    restored.write_text(policy.replace("lacre/keys.db", "backup/keys.db"), encoding="utf-8")
    try:
        read = partial(_at_work, restored, backup / "shop.db", _text_of(1))
        if sealed:
            line("the same backup, sealed since", refused(LacreError, read))
        else:
            line("a backup from before, restored", f"still says: {read()}")
    finally:
        restored.unlink()


def _text_of(customer: int) -> Callable[["sessionmaker[Session]"], str]:
    def read(sessions: "sessionmaker[Session]") -> str:
        query = sa.select(Message).where(Message.customer_id == customer)
        with sessions() as session:
            return session.scalars(query).one().text

    return read


def _at_work(config: Path, data: Path, work: Callable[["sessionmaker[Session]"], T]) -> T:
    engine = sa.create_engine(f"sqlite:///{data}")
    try:
        with (
            Lacre.load(config, environ={}) as lacre,
            lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
        ):
            return work(lacre.sqlalchemy(sessionmaker(engine)))
    finally:
        engine.dispose()
