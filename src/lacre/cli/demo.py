# SPDX-License-Identifier: Apache-2.0
"""
`lacre demo`: the main job from end to end, on a database made for it.

Every figure shown is measured in this run and every refusal is a real one: an act whose claim
does not hold stops the demonstration with an error. Needs no account, no server and no root.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from textwrap import shorten

import sqlalchemy as sa
import typer
from rich.syntax import Syntax
from rich.text import Text
from sqlalchemy.orm import Session, sessionmaker

from lacre.application import Lacre
from lacre.cli import demo_application, demo_data
from lacre.cli.demo_application import Customer
from lacre.cli.demo_life import find_move_and_erase
from lacre.cli.demo_stage import bytes_around, expect, line, refused, shown, timed
from lacre.cli.initialise import initialise
from lacre.cli.operator import as_operator
from lacre.cli.progress import progress_bar
from lacre.cli.protection import authority_of, fields_of
from lacre.cli.terminal import out, table
from lacre.errors import (
    ConfigurationError,
    DuplicateValue,
    LacreError,
    MisuseError,
    Tampered,
)
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.pace import Pace
from lacre.jobs.sqlite.plan import plan
from lacre.jobs.sqlite.protect import protect
from lacre.jobs.sqlite.residue import find_plaintext
from lacre.keys.hierarchy import KeyKind

__all__ = ["demo"]

PROTECTED = (
    "name:pii:name:96",
    "email:pii:email",
    "cpf:pii:cpf",
    "phone:pii",
    "address:pii",
    "card:payment",
    "born:pii",
    "notes:pii",
)
_COLUMNS = tuple(text.partition(":")[0] for text in PROTECTED)
_MARKER = ".made-by-lacre-demo"


def demo(
    context: typer.Context,
    directory: Path = typer.Option(Path("demo"), "--directory", help="where; remade on every run"),
    people: int = typer.Option(
        5000, min=100, max=1_000_000, help="customers in the legacy database"
    ),
    pause: bool = typer.Option(False, "--pause", help="wait for Enter between the acts"),
) -> None:
    """Show the main job: a legacy database is encrypted in place, used, attacked and searched for plaintext."""
    program = context.find_root().command

    def lacre(words: list[str]) -> None:
        program.main(words, standalone_mode=False)

    Demonstration(directory, people=people, pause=pause, lacre=lacre).run()


class Demonstration:
    """One run. Acts share the directory, the database and what was plaintext in it."""

    def __init__(
        self, directory: Path, *, people: int, pause: bool, lacre: Callable[[list[str]], None]
    ) -> None:
        self._directory = directory
        self._lacre = lacre
        self._people = people
        self._pause = pause
        self._path = directory / "shop.db"
        self._config = directory / "lacre.toml"
        self._secrets: list[str | bytes] = []
        self._number = 0

    def run(self) -> None:
        """Perform every act, in order."""
        started = time.perf_counter()
        self._clear()
        self._act("A legacy database, full of plaintext", self._legacy)
        self._act("Keys and a policy: lacre init", self._keys)
        self._act("Protected in place: lacre protect", self._protect)
        with Lacre.load(self._config, environ={}) as lacre:
            engine = sa.create_engine(f"sqlite:///{self._path}")
            sessions = lacre.sqlalchemy(sessionmaker(engine))
            self._act(
                "An application declares its columns and works on",
                lambda: self._use(lacre, sessions),
            )
            self._act(
                "Who may read what, and the trace it leaves", lambda: self._read(lacre, sessions)
            )
            self._act("An attacker with the database", lambda: self._attack(lacre, sessions))
            self._act("Keys rotate, data stays", lambda: self._rotate(lacre, sessions))
            engine.dispose()
        self._act(
            "Found by a part, moved to the new key, erased: the life of a value",
            lambda: find_move_and_erase(self._directory, self._lacre),
        )
        self._act("Is any plaintext left? Every byte of the file", self._search)
        out.print()
        line("all of it in", f"{time.perf_counter() - started:.1f} s")
        line("what was made is in", f"{self._directory}/  (lacre.toml, shop.db, lacre/)")
        line("the application is", "src/lacre/cli/demo_application.py")

    def _clear(self) -> None:
        if self._directory.exists():
            if not (self._directory / _MARKER).exists():
                raise ConfigurationError(
                    f"{self._directory} is there and was not made by the demonstration",
                    hint="name another: --directory DIR",
                )
            shutil.rmtree(self._directory)
        self._directory.mkdir(parents=True)
        (self._directory / _MARKER).touch()

    def _act(self, title: str, perform: Callable[[], None]) -> None:
        self._number += 1
        out.print()
        out.rule(Text(f"{self._number}. {title}", style="bold"), align="left")
        perform()
        if self._pause:
            typer.prompt("press Enter", default="", show_default=False, err=True)

    # The acts

    def _legacy(self) -> None:
        demo_data.build(self._path, self._people)
        with closing(sqlite3.connect(self._path)) as connection:
            names = ", ".join(_COLUMNS)
            rows = connection.execute(f"SELECT {names} FROM customers").fetchall()  # noqa: S608 - our own names
            shown = connection.execute(
                "SELECT name, email, cpf, card FROM customers WHERE card IS NOT NULL AND length(email) < 25 AND length(name) < 14 LIMIT 5"
            ).fetchall()
        # Distinct values of every protected column, and of people deleted long ago.
        self._secrets = [
            *{value for row in rows for value in row if isinstance(value, str) and value},
            demo_data.DEPARTED_NAME,
        ]
        out.print(
            table(
                ("name", "email", "cpf", "card"),
                [[str(value or "NULL") for value in row] for row in shown],
            )
        )
        line("customers", f"{len(rows):,} in {self._path}")
        line("sensitive columns", f"{names}")
        at, dump = bytes_around(self._path, demo_data.KNOWN_CPF)
        line("the file itself", f"at byte {at:,}: {dump}")
        residue = find_plaintext(self._path, self._secrets)
        line(
            "plaintext found",
            f"{residue.values_found:,} of {residue.searched:,} distinct values, {sum(residue.found.values()):,} times",
        )
        line("and of the deleted", f"{demo_data.DEPARTED_NAME}, in a freed page")
        expect(
            residue.values_found == residue.searched,
            "the legacy database holds every value in plaintext",
        )

    def _keys(self) -> None:
        started = time.perf_counter()
        made = initialise(self._directory, app="shop", env="demo")
        elapsed = time.perf_counter() - started
        for path in made.files[:4]:
            out.print(Text("  " + str(path.relative_to(self._directory))))
        out.print(
            Text(
                "  "
                f"lacre/keystore/: {len(made.files) - 4} KMS keys, signed by the operator, sealed to operator and svc:app"
            )
        )
        policy = self._config.read_text(encoding="utf-8")
        out.print(
            Syntax(
                policy[policy.index("[classes.pii]") : policy.index("[classes.banking]")].strip(),
                "toml",
                background_color="default",
                padding=(1, 2),
            )
        )
        line("no account, no server", f"{elapsed:.2f} s")

    def _protect(self) -> None:
        requests = [ColumnRequest.parse(text) for text in PROTECTED]
        out.print(
            Text(
                "  "
                "lacre protect --database sqlite:///shop.db --table customers \\\n    "
                + " ".join(f"--column {text}" for text in PROTECTED)
            )
        )
        before = self._path.stat().st_size
        with as_operator(self._config, None, purpose="protect") as operator:
            for step in plan(self._path, "customers", requests).steps():
                out.print(Text("  • " + shorten(step, 74, placeholder=" …")))
            started = time.perf_counter()
            with progress_bar() as advance:
                report = protect(
                    self._path,
                    "customers",
                    requests,
                    fields=fields_of(operator, "main"),
                    authority=authority_of(operator),
                    pace=Pace(progress=advance),
                )
            elapsed = time.perf_counter() - started
        values = report.rows * len(requests)
        line(
            "encrypted and verified",
            f"{report.rows:,} rows × {len(requests)} columns in {elapsed:.1f} s ({values / elapsed:,.0f} values/s, each decrypted and compared too)",
        )
        line(
            "the file",
            f"{before / 1e6:.1f} MB before, {self._path.stat().st_size / 1e6:.1f} MB after",
        )
        line("from now on", "the table itself refuses plaintext in these columns (CHECK)")

    def _use(self, lacre: Lacre, sessions: "sessionmaker[Session]") -> None:
        source = Path(demo_application.__file__).read_text(encoding="utf-8")
        declared = source[source.index("    lacre_rid") : source.index("    phone")]
        out.print(
            Syntax(declared + "    ...", "python", background_color="default", padding=(0, 0))
        )
        with (
            lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
            sessions() as session,
        ):
            query = sa.select(Customer).where(Customer.cpf == "52998224725")
            found, elapsed = timed(lambda: session.scalars(query).one())
            expect(found.name == demo_data.KNOWN_NAME, "the look-up finds the customer")
            line(
                "look-up by CPF",
                f"52998224725 → {found.name}, {found.email}, born {found.born}  ({elapsed * 1e3:.1f} ms, by blind index)",
            )
            namesakes = session.scalars(
                sa.select(Customer).where(Customer.name == "ANA SOUZA")
            ).all()
            line(
                "look-up by name",
                f"ANA SOUZA → {len(namesakes)} customers, by tokens of 96 bits: nothing is opened to find them",
            )
            session.add(
                Customer(
                    name="Someone Else",
                    email="new@example.org",
                    cpf=" 529.982.247-25 ",
                    created_at="2026-01-01",
                )
            )
            line("a second such CPF", refused(DuplicateValue, session.commit))
            session.rollback()
            before = _raw(session, found.id)
            found.phone = "+5511912345678"
            session.commit()
            after = _raw(session, found.id)
            changed = [name for name in before if before[name] != after[name]]
            expect(changed == ["phone"], "only the updated field was encrypted anew")
            line(
                "one field updated",
                f"{', '.join(changed)} re-encrypted, the other {len(before) - 1} byte for byte as they were",
            )
            line(
                "NULL stays NULL",
                f"{session.scalar(sa.select(sa.func.count()).select_from(Customer).where(Customer.cpf.is_(None))):,} customers without a CPF",
            )

    def _read(self, lacre: Lacre, sessions: "sessionmaker[Session]") -> None:
        rows = []
        with sessions() as session:
            for principal, role in (
                ("svc:shop", "app"),
                ("user:bia", "support"),
                ("user:caio", "marketing"),
            ):
                with lacre.acting_as(principal, roles={role}, purpose="support call"):
                    customer = session.get_one(Customer, 1)
                    rows.append(
                        [
                            f"{principal} ({role})",
                            *(shown(customer, name) for name in ("name", "email", "cpf")),
                        ]
                    )
        out.print(table(("the same object, read by", "name", "email", "cpf"), rows))
        expect(
            rows[0][1] == demo_data.KNOWN_NAME
            and "***" in rows[1][3]
            and rows[2][1] == "AccessDenied",
            "each reader gets what the policy gives",
        )
        lacre.recorder.flush()
        events = [
            json.loads(line)
            for line in (self._directory / "lacre" / "audit.jsonl").read_text().splitlines()
        ]
        looks = [
            event
            for event in events
            if event["action"] == "look" and event["purpose"] == "support call"
        ][-9::3]
        out.print()
        out.print(
            table(
                ("recorded", "column", "outcome", "rule"),
                [
                    [
                        e["principal"],
                        f"{e['table']}.{e['column']}",
                        e["outcome"],
                        e["rule"],
                    ]
                    for e in looks
                ],
            )
        )
        line(
            "evidence",
            f"{len(events):,} events in lacre/audit.jsonl; no value, search term or key in any",
        )

    def _attack(self, lacre: Lacre, sessions: "sessionmaker[Session]") -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            first, second = connection.execute(
                "SELECT id, email FROM customers ORDER BY id LIMIT 2"
            ).fetchall()
            for key, email in (first, second):
                line(f"customers.email, id {key}", f"{bytes(email).hex()[:42]}…")
            connection.execute("UPDATE customers SET email = ? WHERE id = ?", (first[1], second[0]))
            connection.commit()
            with (
                lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
                sessions() as session,
            ):
                victim = session.get_one(Customer, second[0])
                line("ciphertext moved to another row", refused(Tampered, lambda: victim.email))
            flipped = bytearray(second[1])
            flipped[-1] ^= 1
            connection.execute(
                "UPDATE customers SET email = ? WHERE id = ?", (bytes(flipped), second[0])
            )
            connection.commit()
            with (
                lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
                sessions() as session,
            ):
                victim = session.get_one(Customer, second[0])
                line("one bit flipped", refused(Tampered, lambda: victim.email))
            connection.execute("UPDATE customers SET email = ? WHERE id = ?", second[::-1])
            connection.commit()
            try:
                connection.execute(
                    "UPDATE customers SET email = 'planted@example.org' WHERE id = 2"
                )
                raise MisuseError("the table took plaintext")
            except sqlite3.IntegrityError:
                line("plaintext planted by SQL", "refused by the table itself: CHECK constraint")
        with (
            lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
            sessions() as session,
        ):
            mask = _as_support(lacre, session)
            customer = session.get_one(Customer, 1)
            line(
                "a mask written back",
                refused(LacreError, lambda: setattr(customer, "email", mask)),
            )
            expect(customer.email == demo_data.KNOWN_EMAIL, "nothing was lost")
            line("and the data", f"as it was: {customer.email}")
        with sessions() as session:
            line(
                "code that says not who it is",
                refused(LacreError, lambda: session.get_one(Customer, 1).email),
            )

    def _rotate(self, lacre: Lacre, sessions: "sessionmaker[Session]") -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            before = connection.execute(
                "SELECT count(*), total(length(email)) FROM customers"
            ).fetchone()
        started = time.perf_counter()
        with as_operator(self._config, None, purpose="rotation") as operator:
            operator.keystore().rotate_key("pii-fields", operator.recipients())
            branch = operator.lacre.provisioner.rotate(
                operator.lacre.scope("default", "pii").of_kind(KeyKind.BRANCH)
            )
            key = operator.lacre.provisioner.rotate(operator.lacre.scope("default", "pii"))
            elapsed = time.perf_counter() - started
            rows = [
                [
                    r.scope.class_,
                    str(r.scope.kind),
                    str(r.version),
                    str(r.state),
                    r.key_id.hex()[:8],
                    r.parent if "://" in r.parent else r.parent[:8],
                ]
                for r in operator.store.rows()
                if r.scope.class_ == "pii"
            ]
        out.print(table(("class", "kind", "#version", "state", "key", "wrapped by"), rows))
        line(
            "KMS key, branch key, data key",
            f"new versions in {elapsed * 1e3:.0f} ms; no data row was touched",
        )
        lacre.resolver.forget()  # what a running process does by itself when its cache is 300 s old
        with (
            lacre.acting_as("svc:shop", roles={"app"}, purpose="support call"),
            sessions() as session,
        ):
            customer = session.get_one(Customer, 1)
            expect(customer.email == demo_data.KNOWN_EMAIL, "values under the old version open")
            line("written before", f"still opens: {customer.email}")
            customer.notes = "called after the rotation"
            session.commit()
            raw = _raw(session, 1)
        expect(
            bytes(raw["notes"])[3:19] == key.key_id and branch.version == 2,
            "new writes use the new key",
        )
        line("written now", f"names key {key.key_id.hex()[:8]}")
        expect(before[0] > 0, "there are customers")

    def _search(self) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            stays = [
                str(row[0])
                for row in connection.execute(
                    "SELECT DISTINCT city FROM customers UNION SELECT created_at FROM customers UNION SELECT sql FROM sqlite_master"
                )
            ]
            stays += [
                str(value)
                for row in connection.execute("SELECT DISTINCT placed_at, status FROM orders")
                for value in row
            ]
            free = connection.execute("PRAGMA freelist_count").fetchone()[0]
        residue, elapsed = timed(lambda: find_plaintext(self._path, self._secrets, elsewhere=stays))
        line(
            "searched for",
            f"{residue.searched:,} distinct values in UTF-8 and both UTF-16, in {residue.bytes_read / 1e6:.1f} MB, {elapsed:.1f} s",
        )
        line(
            "not searched for",
            f"{residue.short:,} shorter than 6 bytes (anything holds those), {residue.elsewhere:,} that also occur in columns left in plaintext",
        )
        for name, count in residue.found.items():
            line(name, f"{count} occurrences")
        line("freed pages", f"{free}")
        expect(residue.clean, "no protected value is left in the file")
        line("result", "no plaintext of any protected value is left in the file")
        out.print()
        line(
            "not reached by this",
            "disk blocks once used by the old file, snapshots, backups: see what `lacre protect` says",
        )


def _as_support(lacre: Lacre, session: Session) -> object:
    with lacre.acting_as("user:bia", roles={"support"}, purpose="support call"):
        return session.get_one(Customer, 1).email


def _raw(session: Session, key: int) -> dict[str, bytes]:
    columns: list[sa.ColumnClause[bytes]] = [sa.column(name) for name in _COLUMNS]
    query = sa.select(*columns).select_from(sa.table("customers")).where(sa.column("id") == key)
    return dict(zip(_COLUMNS, session.connection().execute(query).one(), strict=True))
