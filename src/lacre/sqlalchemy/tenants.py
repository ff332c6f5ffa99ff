# SPDX-License-Identifier: Apache-2.0
"""
Moving rows from one tenant to another, with what refers to them: each value encrypted anew.

Rule 1: before anything is changed it is known what moves, that whoever acts may do it in both
        tenants, that the target has keys, that no unique value is there twice, and that nobody
        whose rows move is under a legal hold.
Rule 2: a row moves as a whole, and what refers to it moves in the same transaction. So nothing has
        to be remembered: what is left in the source is what is left to do, after a kill as well.
Rule 3: rows are locked before they are read, so no write in between is lost.

The unit of work encrypts and records (`lacre.sqlalchemy.writing`). Shreds nothing and moves no
keys: the source's keys stay, and so do copies that backups hold.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session, lazyload, sessionmaker
from sqlalchemy.orm.attributes import instance_state

from lacre.audit.event import Outcome, surrogates
from lacre.context import acting_as, current
from lacre.errors import AccessDenied, ConfigurationError, MisuseError
from lacre.sqlalchemy.crossing import moving_tenants
from lacre.sqlalchemy.declared import check_row_id, sealed_properties, tenant_text
from lacre.sqlalchemy.held_subjects import check_unheld
from lacre.sqlalchemy.tenant_conflicts import conflicts, is_one_of, parts, raw_held
from lacre.sqlalchemy.tenant_tables import TenantTable, TenantTables

__all__ = ["Conflict", "MovePlan", "MoveReport", "TenantMove"]

_NAMED = 20  # rows of a conflict that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Rows whose value the target has already, where it may be there once. *rows* names some, where ids may be."""

    table: str
    columns: tuple[str, ...]
    count: int
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePlan:
    """What a move would do: rows by table, encrypted values among them, and what is in the way."""

    source: str
    target: str
    rows: Mapping[str, int]
    values: int
    classes: tuple[str, ...]
    conflicts: tuple[Conflict, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReport:
    """What a move did: rows by table."""

    rows: Mapping[str, int]


class TenantMove:
    """
    One move, of whoever acts, who acts for no tenant: a move is about two.

    Args:
        sessions: of `Lacre.sqlalchemy`.
        models: a declarative base, or mapped classes, whose rows move. Rows of other models that
            name a tenant too and refer to those by a foreign key move with them.
        source, target: the two tenants.
        where: a condition on the rows of the one model named; all of the source's rows without it.
        batch: rows of one transaction, not counting those that refer to them.

    Raises:
        ConfigurationError: a model names no tenant, or its tenant is part of a key.
    """

    def __init__(
        self,
        sessions: sessionmaker[Session],
        models: Any,
        *,
        source: str,
        target: str,
        where: Any = None,
        batch: int = 500,
    ) -> None:
        self._sessions = sessions
        self._where = where
        self._batch = batch
        with sessions() as session:
            self._binding: Any = session.info.get("lacre")
        if self._binding is None:
            raise ConfigurationError(
                "rows are moved by sessions of lacre",
                hint="sessions = lacre.sqlalchemy(sessionmaker(engine))",
            )
        self._tables = TenantTables(models, source, target)
        self._roots = self._tables.roots
        first = self._roots[0]
        if where is not None and len(self._roots) != 1:
            raise ConfigurationError(
                "a condition is about the rows of one model", hint="name that model, not its base"
            )
        self.source = tenant_text(first.mapper, first.source)
        self.target = tenant_text(first.mapper, first.target)
        if self.source == self.target:
            raise ConfigurationError("the two tenants are one")

    def __repr__(self) -> str:
        return f"<TenantMove {self.source} to {self.target}>"

    def plan(self) -> MovePlan:
        """
        Return what would move and what is in the way. Changes nothing.

        Raises:
            AccessDenied: whoever acts may not read in the source, or not write in the target.
            KeyNotFound: the target has no keys of a class.
            SubjectHeld: a row is of somebody who is under a legal hold in the source.
        """
        self._check_rights()
        rows: dict[str, int] = defaultdict(int)
        values = 0
        twice: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
        for table, instances in self._walked():
            rows[table.name] += len(instances)
            check_unheld(self._binding, instances)
            values += sum(
                raw_held(each, prop) is not None
                for each in instances
                for prop in sealed_properties(instance_state(each).mapper)
            )
            session: Any = instance_state(instances[0]).session
            for columns, found in conflicts(
                session,
                table,
                instances,
                source=self.source,
                target=self.target,
                acting_for=self._for,
            ):
                twice[table.name, columns] += found
        return MovePlan(
            source=self.source,
            target=self.target,
            rows=dict(rows),
            values=values,
            classes=tuple(sorted({prop.declared.class_ for prop in self._properties()})),
            conflicts=tuple(
                Conflict(
                    table=name,
                    columns=columns,
                    count=len(found),
                    rows=tuple(surrogates(found)[:_NAMED]),
                )
                for (name, columns), found in twice.items()
            ),
            notices=self._tables.stay_behind(),
        )

    def run(
        self,
        *,
        throttle: float | None = None,
        progress: Callable[[int], None] | None = None,
        plan: MovePlan | None = None,
    ) -> MoveReport:
        """
        Move the rows, batch by batch; run again, it goes on where it stopped.

        Args:
            throttle: rows a second at most.
            progress: told of the rows of each batch.
            plan: of a moment ago, so that rows are not read twice.

        Raises:
            DuplicateValue: the target has a unique value already; what moved before stays moved.
            SubjectHeld: somebody was put under a legal hold meanwhile, and stays.
            AccessDenied, KeyUnavailable, EvidenceUnavailable, Tampered
        """
        found = plan or self.plan()
        if found.conflicts:
            first = found.conflicts[0]
            raise MisuseError(
                f"{self.target} holds {first.count} values of {first.table}.{', '.join(first.columns)} already, which may be there once; nothing was moved",
                hint="change or remove the rows of one tenant, or move fewer: where=",
            )
        moved: dict[str, int] = defaultdict(int)
        began, done = time.monotonic(), 0
        for root in self._roots:
            before: list[Any] = []
            while True:
                keys, counts = self._moved_batch(root)
                if not keys:
                    break
                if keys == before:
                    raise MisuseError(
                        f"rows of {root.name} keep their tenant: something of the application's sets it back"
                    )
                before = keys
                for name, count in counts.items():
                    moved[name] += count
                done += sum(counts.values())
                if progress is not None:
                    progress(sum(counts.values()))
                if throttle:
                    time.sleep(max(0.0, done / throttle - (time.monotonic() - began)))
        return MoveReport(rows=dict(moved))

    # Rights

    def _properties(self) -> list[Any]:
        found = [
            prop
            for table in self._tables.all
            for mapper in table.mapper.self_and_descendants
            for prop in sealed_properties(mapper)
        ]
        return list(dict.fromkeys(found))

    def _check_rights(self) -> None:
        if current().tenant is not None:
            raise AccessDenied(
                f"{current().principal} acts for one tenant, and a move is about two",
                hint="act for none: acting_as(...) without tenant=",
            )
        for prop in self._properties():
            held = self._binding.field(prop)
            with self._for(self.source):
                if held.may_read().outcome is not Outcome.ALLOWED:
                    raise AccessDenied(
                        f"{current().principal} may see masks of {held.scheme} only, and moves no rows with it"
                    )
            with self._for(self.target):
                held.writing(tenant=self.target)

    def _for(self, tenant: str) -> acting_as:
        acting = current()
        return acting_as(
            acting.principal,
            roles=acting.roles,
            purpose=acting.purpose,
            tenant=tenant,
            application=acting.application,
        )

    # Walking

    def _first(self, session: Session, root: TenantTable, after: Sequence[Any] | None) -> list[Any]:
        query = sa.select(*root.keys).where(root.tenant == root.source).order_by(*root.keys)
        if self._where is not None:
            query = query.where(self._where)
        if after is not None:
            query = query.where(sa.tuple_(*root.keys) > sa.tuple_(*after))
        # For the source: a search is for one tenant, and this one's tokens are meant.
        with self._for(self.source):
            return [tuple(row) for row in session.execute(query.limit(self._batch))]

    def _walked(self) -> Iterator[tuple[TenantTable, list[Any]]]:
        for root in self._roots:
            after = None
            while True:
                with self._sessions() as session:
                    keys = self._first(session, root, after)
                    if not keys:
                        break
                    after = keys[-1]
                    for table, instances in self._with_children(session, root, keys, lock=False):
                        # What moves with another root is a root of its own as well.
                        if table is root or table not in self._roots:
                            yield table, instances

    def _with_children(
        self, session: Session, root: TenantTable, keys: Sequence[Any], *, lock: bool
    ) -> list[tuple[TenantTable, list[Any]]]:
        found: list[tuple[TenantTable, list[Any]]] = []
        seen: set[Any] = set()
        with self._for(self.source):
            # Under the condition again: a row may have changed since, and is locked only now.
            first = self._loaded(session, root, root.keys, keys, lock=lock, where=self._where)
        waiting = [(root, first)]
        while waiting:
            table, instances = waiting.pop()
            new = [each for each in instances if instance_state(each) not in seen]
            seen.update(instance_state(each) for each in new)
            if not new:
                continue
            found.append((table, new))
            for child, pairs in table.children:
                names = [getattr(child.model, name) for _, name in pairs]
                values = [tuple(getattr(each, key) for key, _ in pairs) for each in new]
                values = [each for each in values if None not in each]
                waiting.append((child, self._loaded(session, child, names, values, lock=lock)))
        return found

    def _loaded(
        self,
        session: Session,
        table: TenantTable,
        columns: Sequence[Any],
        values: Sequence[Any],
        *,
        lock: bool,
        where: Any = None,
    ) -> list[Any]:
        found: list[Any] = []
        for part in parts(values):
            named = is_one_of(columns, part)
            query = sa.select(table.model).where(named, table.tenant == table.source)
            if where is not None:
                query = query.where(where)
            query = query.options(lazyload("*")).execution_options(populate_existing=True)
            if lock:
                query = query.with_for_update(of=table.model)
            found += session.scalars(query)
        return found

    def _moved_batch(self, root: TenantTable) -> tuple[list[Any], dict[str, int]]:
        with moving_tenants(), self._sessions.begin() as session:
            connection = session.connection(bind_arguments={"mapper": root.mapper})
            check_row_id(root.mapper, connection.dialect)
            if connection.dialect.name == "sqlite":
                # SQLite locks no rows. A write that changes none takes its one lock, so nothing
                # that is read from here on can change before it is written.
                key = root.mapper.primary_key[0]
                connection.execute(sa.update(key.table).values({key: key}).where(sa.false()))
            keys = self._first(session, root, None)
            counts: dict[str, int] = defaultdict(int)
            # Parents before children: a row that is inserted with a foreign key waits for its
            # parent's lock, and is then there to be found.
            for table, instances in self._with_children(session, root, keys, lock=True):
                counts[table.name] += len(instances)
                for instance in instances:
                    setattr(instance, table.tenant_key, table.target)
            return keys, counts
