# SPDX-License-Identifier: Apache-2.0
"""
The rewrap engine: keys that KMS keys wrap are wrapped anew, and nothing else changes.

A key whose row names another KMS key than the policy does is *moved* there, within one key service
or to another; one under an older version of its KMS key is *renewed*. The key and its id stay, so
no value is touched; so do state, revision and the MAC over them, which say nothing of a parent.
What is done stands in the rows themselves: killed at any point, the next run does the rest.

Rule 1: a row's own word never chooses a KMS key. It is opened only under one that the policy or the
        operator names, and goes only to the one that the policy names now.
Rule 2: no wrap is stored that does not open to the same key, where the credential may unwrap.
Rule 3: a row is replaced only if nobody changed it since it was read.

Implements ``spec/key-services.md``, section 5. Does not mint, activate or change states, and does
not touch keys under branch keys.
"""

import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, final

from lacre.audit.event import who
from lacre.audit.events import KeyRewrapped
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    LacreError,
    MisuseError,
    Tampered,
)
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, Scope
from lacre.keys.kms_keys import scheme_of
from lacre.keys.ports import KeyMover, KeyReader, KeyService, KeyWriter
from lacre.keys.recording import recorded
from lacre.keys.resolver import service_of
from lacre.sensitive import KeyMaterial

__all__ = ["KeyMove", "Left", "MovingService", "Rewrap", "RewrapPlan", "Rewrapped", "Why"]

_ROUNDS = 5  # over rows that somebody changed meanwhile
_BATCH = 32  # rows stored in one transaction
_AHEAD = 16  # times `concurrent`: how many wait for an answer, so that storing holds nobody up


class MovingService(KeyService, KeyMover, Protocol):
    """A key service as moving needs it: it opens, and wraps what it did not mint."""


class Table(KeyReader, KeyWriter, Protocol):
    """A key store as moving needs it."""

    def rows(self) -> Sequence[KeyRow]:
        """Return every row."""
        ...


class Why(StrEnum):
    """Why a key was left as it is."""

    UNNAMED = "lacre.toml does not name its KMS key"
    STRANGE = "wrapped by a KMS key that nobody named"
    SEALED = "does not open"
    DENIED = "denied"
    DISABLED = "the KMS key, or its version, is disabled"
    DESTROYED = "the KMS key, or its version, was destroyed"
    MISSING = "there is no such KMS key"
    UNREACHABLE = "the key service did not answer"
    CONTENDED = "somebody else kept changing it"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMove:
    """One row, and the KMS key it goes to: another, or the newest version of the same."""

    row: KeyRow
    to: str

    @property
    def moves(self) -> bool:
        """Whether the KMS key is another."""
        return self.row.parent != self.to

    def moved(self, wrapped: bytes) -> KeyRow:
        """Return the row as it is afterwards: *wrapped* is bound to it."""
        return replace(self.row, parent=self.to, wrapped=wrapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A row that was left as it is, and why. *detail* is an error's text."""

    row: KeyRow
    to: str
    why: Why
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapPlan:
    """
    What a rewrap would do.

    Args:
        todo: the rows to be wrapped anew.
        left: those it cannot do.
        current: how many are as they should be.
        untold: how many of these may be under an older version: the service does not tell, or not
            this credential.
    """

    todo: Sequence[KeyMove]
    left: Sequence[Left]
    current: int
    untold: int

    def counted(self) -> Sequence[tuple[str, str, int]]:
        """Return how many keys go from which KMS key to which."""
        counts = Counter((each.row.parent, each.to) for each in self.todo)
        return [(*pair, number) for pair, number in sorted(counts.items())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrapped:
    """
    What a rewrap did.

    Args:
        moved: keys now under another KMS key.
        renewed: keys now under the newest version of the same.
        checked: of both, whose new wrap was opened before it was stored.
        current: keys that were as they should be.
        left: keys left as they are.
        seconds: how long it took.
    """

    moved: int
    renewed: int
    checked: int
    current: int
    left: Sequence[Left]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Done:
    move: KeyMove
    row: KeyRow
    checked: bool


_REASONS: Sequence[tuple[type[LacreError], Why]] = (
    (KeyServiceDenied, Why.DENIED),
    (KeyDisabled, Why.DISABLED),
    (KeyDestroyed, Why.DESTROYED),
    (KeyNotFound, Why.MISSING),
    (KeyServiceUnreachable, Why.UNREACHABLE),
    (Tampered, Why.SEALED),
)

# Told once of a pair of KMS keys, it holds for the rest of its keys: ten thousand more calls would
# say the same.
_OF_THE_PAIR = frozenset({Why.DENIED, Why.MISSING, Why.UNREACHABLE})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrap:
    """
    Rewraps one application's keys.

    Args:
        kms_keys: from the policy, with those that keys come from after the one they go to.
        serves: whether a scope is this application's; a key store may serve several.
        concurrent: calls of the key service at the same time.
        clock: in seconds, for how long it took.
    """

    store: Table
    services: Mapping[str, MovingService]
    kms_keys: Callable[[Scope], Sequence[str]]
    recorder: Recorder
    serves: Callable[[Scope], bool] = lambda _: True
    concurrent: int = 8
    clock: Callable[[], float] = time.monotonic
    _may_check: threading.Event = field(init=False, default_factory=threading.Event, repr=False)

    def plan(
        self, *, tenant: str | None = None, class_: str | None = None, anew: bool = False
    ) -> RewrapPlan:
        """
        Return what there is to do. One key of each KMS key is wrapped anew, and thrown away, to
        see which version is the newest.

        Args:
            tenant, class_: of these only.
            anew: also keys of which the service does not tell whether they are under the newest
                version (AWS KMS).
        """
        todo: list[KeyMove] = []
        left: list[Left] = []
        current = untold = 0
        newest: dict[str, str] = {}
        for row in self.store.rows():
            if row.wrapped is None or not row.scope.kind.under_kms or not self.serves(row.scope):
                continue
            if row.scope.kind is KeyKind.SEAL:
                continue  # its KMS key ends with its epoch: `lacre seal` goes on to the next
            if tenant not in (None, row.scope.tenant) or class_ not in (None, row.scope.class_):
                continue
            try:
                to, *others = self.kms_keys(row.scope)
            except ConfigurationError as error:  # a class that is gone, an alias without a pin
                left.append(Left(row=row, to="", why=Why.UNNAMED, detail=str(error)))
                continue
            move = KeyMove(row=row, to=to)
            if row.keystore != self.store.keystore_id:
                left.append(Left(row=row, to=to, why=Why.SEALED))
            elif row.parent != to:
                if row.parent in others:
                    todo.append(move)
                else:
                    left.append(Left(row=row, to=to, why=Why.STRANGE, detail=row.parent))
            else:
                version = self._version_of(row)
                if version is not None and to not in newest:
                    told = self._newest(move)
                    newest |= {} if told is None else {to: told}
                known = newest.get(to) if version is not None else None
                if anew if not known else known != version:
                    todo.append(move)
                else:
                    current += 1
                    untold += not known
        return RewrapPlan(todo=todo, left=left, current=current, untold=untold)

    def run(
        self,
        *,
        tenant: str | None = None,
        class_: str | None = None,
        anew: bool = False,
        progress: Callable[[int, int], object] = lambda _done, _total: None,
    ) -> Rewrapped:
        """
        Rewrap what there is to do, row by row, and store it in small transactions.

        Rows that somebody changes meanwhile are looked at again.

        Args:
            progress: called with how many are done, of how many.

        Raises:
            NoPrincipal: nobody is acting, whose doing it would be.
            EvidenceUnavailable, KeyStoreUnreachable
        """
        current()
        started = self.clock()
        self._may_check.set()
        counts: Counter[str] = Counter()
        plan = self.plan(tenant=tenant, class_=class_, anew=anew)
        fine, left, todo = plan.current, list(plan.left), plan.todo
        total = len(todo)
        for _ in range(_ROUNDS):
            contended: list[KeyMove] = []
            for batch in _batches(self._wrapped(todo, left)):
                for done in self._stored(batch, contended):
                    counts["moved" if done.move.moves else "renewed"] += 1
                    counts["checked"] += done.checked
                progress(counts["moved"] + counts["renewed"] + len(left) - len(plan.left), total)
            # Read again: another state, or somebody else's rewrap.
            ids = {each.row.key_id for each in contended}
            again = self.plan(tenant=tenant, class_=class_, anew=False) if ids else None
            todo = [] if again is None else [m for m in again.todo if m.row.key_id in ids]
            fine += len(ids) - len(todo)
            if not todo:
                break
        left += [Left(row=each.row, to=each.to, why=Why.CONTENDED) for each in todo]
        return Rewrapped(
            moved=counts["moved"],
            renewed=counts["renewed"],
            checked=counts["checked"],
            current=fine,
            left=left,
            seconds=self.clock() - started,
        )

    def _wrapped(self, todo: Sequence[KeyMove], left: list[Left]) -> Iterator[_Done]:
        # In the pool the key service is asked; what it answered is stored by this thread alone.
        stopped: dict[tuple[str, str], Left] = {}
        waiting: set[Future[_Done | Left]] = set()
        with ThreadPoolExecutor(self.concurrent, thread_name_prefix="lacre-rewrap") as pool:
            try:
                for move in todo:
                    waiting.add(pool.submit(self._tried, move, stopped))
                    if len(waiting) >= _AHEAD * self.concurrent:
                        yield from _answered(waiting, left)
                while waiting:
                    yield from _answered(waiting, left)
            finally:
                for future in waiting:
                    future.cancel()

    def _tried(self, move: KeyMove, stopped: dict[tuple[str, str], Left]) -> _Done | Left:
        pair = (move.row.parent, move.to)
        known = stopped.get(pair)
        if known is not None:
            return replace(known, row=move.row)
        try:
            return self._one(move)
        except LacreError as error:
            why = next((why for kind, why in _REASONS if isinstance(error, kind)), None)
            if why is None:
                raise
            found = Left(row=move.row, to=move.to, why=why, detail=str(error))
        if why in _OF_THE_PAIR:
            stopped[pair] = found
        return found

    def _one(self, move: KeyMove) -> _Done:
        row, to = move.row, move.to
        wrapped = row.wrapped or b""
        source, target = self._service(row.parent), self._service(to)
        # The context of the row as it will be: its parent is bound in it, so that a row that
        # names another KMS key than it is wrapped under does not open.
        context = replace(row, parent=to).wrap_context()
        key: KeyMaterial | None = None
        if scheme_of(row.parent) == scheme_of(to):
            # One service for both: where it can, it keeps the key to itself.
            fresh = target.rewrap(
                row.parent, wrapped, row.wrap_context(), to=to, to_context=context
            )
        else:
            key = source.unwrap(row.parent, wrapped, row.wrap_context())
            fresh = target.wrap(to, key, context)
        moved = move.moved(fresh)
        return _Done(move, moved, self._check(move, moved, key))

    def _check(self, move: KeyMove, moved: KeyRow, key: KeyMaterial | None) -> bool:
        if not self._may_check.is_set():
            return False
        try:
            opened = self._service(moved.parent).unwrap(
                moved.parent, moved.wrapped or b"", moved.wrap_context()
            )
        except KeyServiceDenied:
            self._may_check.clear()  # a credential that only rewraps
            return False
        if key is None:
            # The MAC of a usable state is made with the key itself, and was before the move.
            if moved.state in USABLE and moved.trusted_state(opened) is moved.state:
                return True
            row = move.row
            key = self._service(row.parent).unwrap(row.parent, row.wrapped or b"", row.wrap_context())  # fmt: skip
        if not hmac.compare_digest(opened.reveal(), key.reveal()):
            raise Tampered
        return True

    def _stored(self, batch: Sequence[_Done], contended: list[KeyMove]) -> Sequence[_Done]:
        acting, now = current(), time.time()
        events = [
            KeyRewrapped(
                **who(acting, time=now, tenant=done.row.scope.tenant),
                class_=done.row.scope.class_,
                kind=str(done.row.scope.kind),
                key=done.row.key_id.hex(),
                version=done.row.version,
                state=str(done.row.state),
                parent=done.move.row.parent,
                to=done.move.to,
            )
            for done in batch
        ]
        try:
            with recorded(self.recorder.write, self.store, events):
                self.store.change(replace=[(done.move.row, done.row) for done in batch])
        except MisuseError:
            if len(batch) == 1:
                contended.append(batch[0].move)
                return []
        else:
            return batch
        stored = []
        for done, event in zip(batch, events, strict=True):
            try:
                with recorded(self.recorder.write, self.store, [event], again=True):
                    self.store.change(replace=[(done.move.row, done.row)])
                stored.append(done)
            except MisuseError:
                contended.append(done.move)
        return stored

    def _version_of(self, row: KeyRow) -> str | None:
        try:
            return self._service(row.parent).version_of(row.wrapped or b"")
        except Tampered:
            return None  # it opens for nobody; whoever reads it says so

    def _newest(self, move: KeyMove) -> str | None:
        # Asked of the key service, because only it knows, and by the one right that a mover has
        # anyway. None where this row does not tell, the next may; empty where the service does not.
        row = move.row
        try:
            fresh = self._service(move.to).rewrap(
                row.parent, row.wrapped or b"", row.wrap_context(), to=move.to, to_context=row.wrap_context(),
            )  # fmt: skip
        except (Tampered, KeyDestroyed):
            return None
        except (KeyServiceDenied, KeyDisabled, KeyNotFound):
            return ""
        return self._service(move.to).version_of(fresh) or ""

    def _service(self, kms_key: str) -> MovingService:
        service_of(self.services, kms_key)  # says which there are, where there is none
        return self.services[scheme_of(kms_key)]


def _answered(waiting: set[Future[_Done | Left]], left: list[Left]) -> Iterator[_Done]:
    finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
    waiting -= finished
    for future in finished:
        found = future.result()
        if isinstance(found, Left):
            left.append(found)
        else:
            yield found


def _batches(done: Iterator[_Done]) -> Iterator[list[_Done]]:
    batch: list[_Done] = []
    for each in done:
        batch.append(each)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
