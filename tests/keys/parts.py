"""A small key store with real keys, its parts within reach of a test."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any

import psycopg

from lacre._core import field
from lacre._core.derive import WRAP
from lacre.audit.recorder import Recorder
from lacre.context import acting_as
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope, subject_digest
from lacre.keys.provisioning import Provisioner
from lacre.keys.resolver import CacheLimits, Resolver, ScopeHandle, unwrap_row
from lacre.keys.subjects import SubjectMaker
from lacre.sensitive import KeyMaterial
from lacre.stores.sql import SQLKeyStore
from lacre.testing import CapturedEvents, FrozenClock, MemoryKeyService
from tests.components.key_stores import KeptInSQLite, KeyStorePlace

# What is there once a tenant's class is provisioned.
PROVISIONED = (KeyKind.BRANCH, KeyKind.DATA, KeyKind.INDEX)


def kms_key(scope: Scope) -> str:
    """One KMS key for each class and use."""
    return f"local://{scope.class_}-{'index' if scope.kind is KeyKind.INDEX else 'fields'}"


def scope(
    kind: str = "data", *, tenant: str = "default", class_: str = "pii", **more: Any
) -> Scope:
    """A scope of the one application."""
    names = {"app": "app", "env": "test", "service": "svc"} | more
    return Scope(kind=KeyKind(kind), tenant=tenant, class_=class_, **names)


def kms_keys(scope: Scope) -> tuple[str, ...]:
    """The KMS keys of a scope, as a policy without a move names them."""
    return (kms_key(scope),)


@dataclass
class Parts:
    """Key store, key service, provisioner and resolver of one application."""

    place: KeyStorePlace
    store: SQLKeyStore
    service: MemoryKeyService
    sink: CapturedEvents
    recorder: Recorder
    clock: FrozenClock
    resolvers: list[Resolver] = dataclass_field(default_factory=list)

    @classmethod
    def at(cls, place: KeyStorePlace) -> "Parts":
        """Make them, with an empty key store unless there is one."""
        store = place.open()
        store.upgrade()
        sink = CapturedEvents()
        return cls(place, store, MemoryKeyService(), sink, Recorder(sink), FrozenClock())

    def copied(self, place: KeyStorePlace) -> "Parts":
        """The same keys in a place of their own; the key service's root keys are shared."""
        made = Parts.at(place)
        made.service._roots = self.service._roots
        made.store.restore(self.store.contents(), allow=lambda _: None)
        return made

    @property
    def provisioner(self) -> Provisioner:
        return Provisioner(
            store=self.store,
            services={"local": self.service},
            kms_keys=kms_keys,
            recorder=self.recorder,
        )

    def resolver(self, **limits: Any) -> Resolver:
        """A cold resolver."""
        made = Resolver(
            store=self.store,
            services={"local": self.service},
            kms_keys=kms_keys,
            limits=CacheLimits(**limits),
            clock=self.clock,
            make=SubjectMaker(store=self.store, recorder=self.recorder).make,
        )
        self.resolvers.append(made)
        return made

    def close(self) -> None:
        """Close everything, what resolvers do in the background first."""
        for resolver in self.resolvers:
            resolver.close()
        self.recorder.close()
        self.store.close()

    def create(self, *, tenant: str = "default", class_: str = "pii") -> list[KeyRow]:
        """Provision a tenant's class: branch, data, index."""
        with acting_as("operator", purpose="test"):
            return self.provisioner.create(scope(tenant=tenant, class_=class_), indexed=True)

    def rotate(self, kind: str, **where: str) -> KeyRow:
        with acting_as("operator", purpose="test"):
            return self.provisioner.rotate(scope(kind, **where))

    def step(self, row: KeyRow, state: KeyState) -> KeyRow:
        with acting_as("operator", purpose="test"):
            return self.provisioner.step(row.key_id, state)

    def row(self, kind: str = "data", **where: str) -> KeyRow:
        """The highest version."""
        return self.store.versions(scope(kind, **where))[0]

    def material(self, row: KeyRow) -> KeyMaterial:
        """The key a row holds, as an honest process would unwrap it."""
        parent = None
        if not row.scope.kind.under_kms:
            parent = self.material(self.store.row(bytes.fromhex(row.parent)))
        return unwrap_row(row, services={"local": self.service}, kms_keys=kms_keys, parent=parent)

    def sql(self, statement: str, *values: Any) -> Sequence[Any]:
        """What somebody with a SQL prompt and no keys does."""
        return self.place.sql(statement, *values)

    def edit(self, row: KeyRow, column: str, value: Any) -> bool:
        """
        Edit one column by SQL; whatever row is in the way goes.

        Return whether the database takes such a value at all: PostgreSQL knows a column's type, and
        which digests are a subject's.
        """
        update = f'UPDATE lacre_key SET "{column}" = ? WHERE key_id = ? RETURNING 1'
        if isinstance(self.place, KeptInSQLite):
            update = update.replace("UPDATE", "UPDATE OR REPLACE", 1)
        try:
            assert self.sql(update, value, row.key_id)
        except psycopg.errors.UniqueViolation:
            twin = self.store.versions(row.scope.of_kind(KeyKind(value)))[0]
            self.sql("DELETE FROM lacre_key WHERE key_id = ?", twin.key_id)
            assert self.sql(update, value, row.key_id)
        except (
            psycopg.errors.DataError,
            psycopg.errors.DatatypeMismatch,
            psycopg.errors.ForeignKeyViolation,
        ):
            return False
        return True

    def insert(self, row: KeyRow) -> None:
        """Insert a row as it is."""
        self.store.change(add=[row])


def planted(row: KeyRow, parent: bytes, key: KeyMaterial, under: KeyMaterial) -> bytes:
    """*key* wrapped under *under*, as whoever holds a branch key can wrap."""
    wrapped = field.encrypt(
        under.reveal(),
        parent,
        row.immutable(),
        key.reveal(),
        salt=bytes(24),
        padded=False,
        label=WRAP,
    )
    return bytes(wrapped)


def whose(subject: str, **where: Any) -> ScopeHandle:
    """The handle of one subject's keys."""
    of = scope("subject", **where)
    return ScopeHandle(of, subject_digest(of, subject))


def handle(kind: str = "data", **where: Any) -> ScopeHandle:
    return ScopeHandle(scope(kind, **where))
