# SPDX-License-Identifier: Apache-2.0
"""
`Lacre`: one application's policy, keys and evidence, composed.

Above every integration and below the programs; optional packages are imported by the methods
that need them. Decides nothing itself.
"""

import datetime as dt
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from lacre.audit.observing import Observer
from lacre.audit.openings import Limits, Openings
from lacre.audit.recorder import Recorder, Sink
from lacre.context import NOWHERE, Origin, acting_as
from lacre.errors import ConfigurationError, NoTenant
from lacre.evidence import keep_key_evidence, open_sink, policy_met, share_budgets, stamp_of
from lacre.fields.budgets import Budgets
from lacre.fields.column_state import ColumnState, state_of
from lacre.fields.deadlines import Deadlines
from lacre.fields.field import Field
from lacre.fields.guard import Guard
from lacre.fields.index import Index
from lacre.fields.rows import RowId, row_text
from lacre.fields.scheme import Scheme
from lacre.granting import open_book
from lacre.keys.covering import Covering
from lacre.keys.epochs import EpochLedger
from lacre.keys.hierarchy import KeyKind, KeyRow, Scope, subject_digest
from lacre.keys.ports import KeyService
from lacre.keys.provisioning import Provisioner
from lacre.keys.resolver import CacheLimits, Resolver, since_boot
from lacre.keys.subjects import SubjectMaker
from lacre.keys.usage import CountedKeyService, Usage, UsageCounters
from lacre.policy.concerns import log_concerns
from lacre.policy.decisions import Policy
from lacre.policy.grants.book import GrantBook
from lacre.policy.loading import load_pins, load_policy
from lacre.readiness import Probe, Serving
from lacre.stores.opening import open_key_store
from lacre.stores.port import Store

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
    from sqlalchemy.orm import Session, sessionmaker

    from lacre.kms.local.identity import Identity, PublicIdentity
    from lacre.legacy import Unwrap
    from lacre.legacy.reading import Reading

__all__ = ["Lacre"]

S = TypeVar("S", bound="Session")
A = TypeVar("A", bound="AsyncSession")


class Lacre(Serving):
    """
    One application.

    `Lacre.load` makes it from `lacre.toml`; the constructor takes the parts, for tests and for
    whoever brings their own.

    Args:
        store: the key store.
        services: a key service for each URI scheme.
        sink: where evidence goes.
        signers: whose signatures on column states are believed.
        clock: in seconds, for the age of cached keys and the time of events; the system's by default.
        check_identity: raises where the identity could not be loaded again, for `ready`.
        version: of your code, for the evidence; what ``LACRE_CODE_VERSION`` says by default.
        observer: measures; `lacre.telemetry.Telemetry` does with OpenTelemetry.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        store: Store,
        services: Mapping[str, KeyService],
        sink: Sink,
        signers: Sequence["PublicIdentity"] = (),
        clock: Callable[[], float] | None = None,
        check_identity: Callable[[], None] | None = None,
        version: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        if policy.file.env != "test":
            for part in (store, sink, clock, *services.values()):
                if getattr(part, "for_tests_only", False):
                    raise ConfigurationError(
                        f'{type(part).__name__} of lacre.testing is for env = "test" only',
                        hint="name a real one",
                    )
        settings = policy.file
        self.policy = policy
        self.store = store
        self.base = Path()  # what paths of the policy are relative to
        self.book: GrantBook | None = None
        self._counters = UsageCounters(clock=clock or time.time, observer=observer)
        self.recorder = Recorder(sink, buffer=settings.audit.buffer)
        self.services: Mapping[str, KeyService] = {
            scheme: self._counted(service) for scheme, service in services.items()
        }
        self.signers = tuple(signers)
        self.recorder.begin_with(partial(policy_met, sink, settings))
        self.stamp = stamp_of(settings, version)
        keep_key_evidence(store, settings, self.stamp)
        cover = Covering(resolver=lambda: self.resolver, seals=settings.seals)
        self.resolver = Resolver(
            store=store,
            services=self.services,
            kms_keys=self.kms_keys,
            limits=CacheLimits(**settings.cache.model_dump()),
            clock=clock or since_boot,
            unwrapped=self._counters.unwrapped,
            make=SubjectMaker(
                store=store, recorder=self.recorder, cover=cover, made=self._counters.made
            ).make,
        )
        self.budgets = Budgets(
            settings.budgets(), record=self.recorder.record, clock=clock or time.time
        )
        self.guard = Guard(
            policy=policy,
            resolver=self.resolver,
            recorder=self.recorder,
            store=store,
            clock=clock or time.time,
            budgets=self.budgets,
            openings=Openings(
                self.recorder,
                limits=Limits(looks=settings.audit.looks, seconds=settings.audit.open_for),
                clock=clock or time.time,
            )
            if settings.audit.mode == "strict"
            else None,
            observer=observer,
        )
        self.deadlines = Deadlines.of(self, settings.columns, sink, clock=clock or time.time)
        self._probe = Probe(
            policy=policy,
            resolver=self.resolver,
            recorder=self.recorder,
            check_store=store.check,
            column_state=self.column_state,
            deadlines=self.deadlines,
            check_identity=check_identity,
        )
        if observer is not None:
            self.recorder.observe(observer.recorded)
            observer.watch(self)

    @property
    def epochs(self) -> EpochLedger:
        """The epochs of sealing, as operators that lacre.toml trusts signed them."""
        trusted = {signer.fingerprint: signer for signer in self.signers}
        return EpochLedger(epochs=self.store, signers=trusted, keystore=self.store.keystore_id)

    def kms_keys(self, scope: Scope) -> tuple[str, ...]:
        """Return the KMS keys of *scope*: the policy's, of seal keys those an operator signed."""
        if scope.kind is KeyKind.SEAL:
            return self.epochs.kms_keys(scope)
        return self.policy.kms_keys(scope)

    def _counted(self, service: KeyService) -> KeyService:
        # Of another application's, which counts for itself, the service inside.
        inner = service.service if isinstance(service, CountedKeyService) else service
        return CountedKeyService(inner, self._counters, self.recorder.record)

    def __repr__(self) -> str:
        return f"<Lacre {self.policy.file.app} {self.policy.file.env} {self.policy.file.service}>"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] = "lacre.toml",
        *,
        environ: Mapping[str, str] | None = None,
        identity: "Identity | str | os.PathLike[str] | None" = None,
        passphrase: str | None = None,
        moving_from: str | None = None,
        version: str | None = None,
        observer: Observer | None = None,
    ) -> Self:
        """
        Compose the application that the file at *path* describes.

        Args:
            environ: what overlays it; the process's environment by default.
            identity: another local identity than the file names (the operator's, say), or its path.
            passphrase: of that identity, where it has one.
            moving_from: as `[move] from` of the file, for as long as this object lives: for a move
                of keys while nothing else runs.
            version: of your code, for the evidence; what ``LACRE_CODE_VERSION`` says by default.
            observer: measures; `lacre.telemetry.Telemetry` does with OpenTelemetry.

        Raises:
            ConfigurationError: says what is wrong, and what to do.
        """
        from lacre.kms.local import Identity, PublicIdentity
        from lacre.kms.local.files import check_private
        from lacre.kms.opening import open_key_services

        path = Path(path)
        environ = os.environ if environ is None else environ
        file = load_policy(path, environ, moving_from=moving_from)
        log_concerns(file)
        base = path.resolve().parent
        store = open_key_store(file.key_store.url, base, schema=file.key_store.schema_)
        book = open_book(file, base, store)
        policy = Policy(file, pins=load_pins(path), grants=book)
        settings = policy.file
        signers = [PublicIdentity.from_text(line) for line in settings.local.signers]
        opened, check_identity = None, None
        if isinstance(identity, Identity):
            opened = identity
        elif "local" in settings.schemes():
            place = base / (identity or settings.local.identity or "")
            opened = Identity.load(place, passphrase)
            check_identity = partial(check_private, place)
        services = open_key_services(
            settings,
            base=base,
            identity=opened,
            signers=signers,
            memory=store,
            keystore_id=store.keystore_id,
            environ=environ,
        )
        application = cls(
            policy,
            store=store,
            services=services,
            sink=open_sink(settings, base, version=version),
            signers=signers,
            check_identity=check_identity,
            version=version,
            observer=observer,
        )
        application.base, application.book = base, book
        if book is not None:
            book.tell(application.recorder.record)
        share_budgets(application.budgets, settings, base)
        return application

    def acting_as(
        self,
        principal: str,
        *,
        roles: Iterable[str] = (),
        purpose: str,
        tenant: str | None = None,
        across_yield: bool = False,
        origin: Origin = NOWHERE,
    ) -> acting_as:
        """Act as *principal* in a ``with`` block; see `lacre.acting_as`."""
        return acting_as(
            principal, roles=roles, purpose=purpose, tenant=tenant, across_yield=across_yield, application=self, origin=origin,
        )  # fmt: skip

    def field(
        self,
        class_: str,
        *,
        table: str,
        column: str,
        type: type = str,  # noqa: A002 - the word a caller would look for
        index: Index | Sequence[Index] = (),
        store: str = "main",
        mask: str | None = None,
        padded: bool | None = None,
        subject: bool = False,
        moving: bool = False,
    ) -> Field:
        """
        Return the encrypted field *table*.*column*, for use without an ORM.

        Args:
            type: of its values: str, int, Decimal, date, datetime, bytes, bool, dict, list, UUID or an Enum.
            index: what makes it searchable.
            store: the logical name of the database.
            mask: what a reader with the right `mask` sees; the class's mask by default.
            padded: hide the exact length. By default wherever the length would tell something.
            subject: each value is under the key of whom it is about, whom every call names.
            moving: values from before it had subjects are read too, until they are moved.
        """
        indexes = tuple(index) if isinstance(index, Sequence) else (index,)
        return self.field_of(
            Scheme(
                class_=class_,
                store=store,
                table=table,
                column=column,
                python_type=type,
                indexes=indexes,
                mask=mask,
                padded=padded,
                subject=subject,
                moving=moving,
            )
        )

    def field_of(self, scheme: Scheme) -> Field:
        """Return the field that *scheme* declares."""
        self.policy.check_place(scheme.class_, scheme.store, scheme.table, scheme.column)
        return Field(self.guard, scheme)

    def legacy(self, name: str, field: Field, *, unwrap: "Unwrap | None" = None) -> "Reading":
        """
        Return what reads *field*'s column while it is moved in: lacre's values, and the legacy reader *name*'s.

        Args:
            name: of a `[legacy.NAME]` in lacre.toml, whose last day it says.
            unwrap: opens the data keys beside legacy values, in the place of `[aws]`.

        Raises:
            ConfigurationError: there is no such reader, its time is over, or it cannot be opened.
            Tampered: the column's state was not signed by an operator that lacre.toml trusts.
        """
        from lacre.legacy.opening import open_reader, settings_of
        from lacre.legacy.reading import Reading

        scheme, file = field.scheme, self.policy.file

        def day() -> dt.date:
            return self.deadlines.now()[0].date()

        reader = open_reader(file, name, base=self.base, day=day(), unwrap=unwrap)
        recorded = self.store.get(scheme.store, scheme.table, scheme.column) is not None
        moved = recorded and self.column_state(scheme) is ColumnState.ENCRYPTED
        return Reading(field, reader, until=settings_of(file, name).until, moved=moved, day=day)

    def column_state(self, scheme: Scheme) -> ColumnState:
        """
        Return the authenticated state of the column; `encrypted` where nobody ever moved it.

        Raises:
            Tampered: the state row was not signed by an operator that lacre.toml trusts.
        """
        return state_of(
            self.store,
            {signer.fingerprint: signer for signer in self.signers},
            keystore=self.store.keystore_id,
            store=scheme.store,
            table=scheme.table,
            column=scheme.column,
            class_=scheme.class_,
        )

    @overload
    def sqlalchemy(self, factory: "sessionmaker[S]") -> "sessionmaker[S]": ...

    @overload
    def sqlalchemy(self, factory: "async_sessionmaker[A]") -> "async_sessionmaker[A]": ...

    def sqlalchemy(self, factory: Any) -> Any:
        """
        Return *factory*, whose sessions now encrypt, decrypt and record for this application.

        Args:
            factory: a `sessionmaker`, or an `async_sessionmaker`, which never blocks the event loop.

        Raises:
            ConfigurationError: SQLAlchemy is not installed.
        """
        from lacre.sqlalchemy.session import bind

        return bind(factory, self)

    async def prepare(self, objects: Any) -> None:
        """
        Fetch the keys that the encrypted values of an object, or of several, need; look at none.

        For objects of an `AsyncSession` that were kept longer than keys are: an attribute access
        cannot await. Detached ones too.

        Raises:
            ActingError: nobody is acting, for whom the keys would be fetched.
        """
        from lacre.sqlalchemy.preparing import prepare

        await prepare(self, objects)

    def scope(self, tenant: str, class_: str, kind: KeyKind = KeyKind.DATA) -> Scope:
        """Return the scope of a tenant's keys of a class."""
        self.policy.class_(class_)
        if not tenant or len(tenant) > 255:
            raise ConfigurationError("a tenant is a name of 1 to 255 characters")
        return self.policy.scope(kind, class_, tenant)

    @property
    def provisioner(self) -> Provisioner:
        """What makes keys and moves them: for operators."""
        return Provisioner(
            settle=self.policy.file.cache.age,
            store=self.store,
            services=self.services,
            kms_keys=self.kms_keys,
            recorder=self.recorder,
        )

    def create_keys(self, tenant: str, class_: str) -> list[KeyRow]:
        """Provision a tenant's class; see `Provisioner.create`."""
        return self.provisioner.create(
            self.scope(tenant, class_), indexed=self.policy.class_(class_).index is not None
        )

    def activate_keys(self, tenant: str, class_: str) -> list[KeyRow]:
        """Activate what a credential that only mints left pending; see `Provisioner.activate`."""
        return self.provisioner.activate(
            self.scope(tenant, class_), indexed=self.policy.class_(class_).index is not None
        )

    def pseudonym(self, subject: RowId, *, tenant: str | None = None) -> str | None:
        """
        Return what the evidence calls *subject*, the id of whom values are about.

        None of whom no value is about, and of whom was shredded: nobody can tell any more.
        """
        name = tenant or self.policy.file.default_tenant
        if name is None:
            raise NoTenant("no tenant was named", hint='tenant="..."')
        scope = self.policy.scope(KeyKind.SUBJECT, "-", name)
        digest = subject_digest(scope, row_text(subject))
        found = self.store.subjects(scope, [digest]).get(digest)
        return None if found is None else found.subject.pseudonym

    @property
    def revocation_latency(self) -> float:
        """
        Return for how many seconds a process goes on reading, at the longest, once the key service denies it.

        `[cache] age` and `stale_for` together. What the key service itself takes comes on top.
        """
        return self.policy.file.cache.age + self.policy.file.cache.stale_for

    def usage(self) -> Usage:
        """
        Return what this process asked of key services, and which keys of the key store it unwrapped.

        By KMS key and operation: calls, failures by error code, seconds, last time. Counted in
        memory, since this object was made or the process forked; uses of a cached key are none.
        """
        return self._counters.usage()

    def flush(self) -> None:
        """
        Write the looks recorded so far, before this process is frozen or killed.

        Raises:
            EvidenceUnavailable: they cannot be written; they stay in memory for the next try.
        """
        self.recorder.flush()

    def close(self) -> None:
        """
        Drain the recorder, empty the cache of keys, close the key store. Wipes no memory.

        Raises:
            EvidenceUnavailable: looks could not be written; the rest is done all the same.
        """
        try:
            if self.book is not None:
                self.book.close()
        finally:
            self._close_rest()

    def _close_rest(self) -> None:
        try:
            self.recorder.close()
        finally:
            self.budgets.close()
            self.resolver.close()
            self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
