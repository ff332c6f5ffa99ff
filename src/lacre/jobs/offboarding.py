# SPDX-License-Identifier: Apache-2.0
"""
Off-boarding a tenant: destroy every key it has, of every kind and class, and certify that.

Branch keys first: from then on no process that has not cached them opens anything below. Resumable,
because what is left is what was not destroyed. Touches no row of data and no other tenant's key.
Branch, data and index keys are not sealed: dumps of the key store bring them back until they expire,
and the certificate says so.
"""

import datetime as dt
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lacre.audit.event import who
from lacre.audit.events import Erased
from lacre.audit.recorder import Recorder
from lacre.context import current
from lacre.errors import KeyNotFound, MisuseError, SubjectHeld
from lacre.jobs.certificates import FORMAT, STATEMENT, later
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState, Scope
from lacre.keys.moments import now_text
from lacre.keys.recording import key_changes, recorded
from lacre.policy.model import PolicyFile

__all__ = ["OffboardStore", "Offboarder"]

_PAGE = 500
# What opens others goes first.
_ORDER = (KeyKind.BRANCH, KeyKind.INDEX, KeyKind.DATA, KeyKind.SUBJECT)


class OffboardStore(Protocol):
    """A key store as off-boarding needs it."""

    @property
    def keystore_id(self) -> str: ...

    def keys_of_tenant(self, scope: Scope, *, after: bytes, limit: int) -> Sequence[KeyRow]: ...

    def held_in(self, scope: Scope) -> int:
        """Return how many subjects with keys of *scope*'s tenant are under a hold."""
        ...

    def has_tenant(self, scope: Scope) -> bool:
        """Whether any key, destroyed or not, is of *scope*'s tenant."""
        ...

    def destroyed_of_tenant(self, scope: Scope) -> Mapping[tuple[str, str], int]:
        """Return how many keys of *scope*'s tenant were destroyed, by class and kind."""
        ...

    def change(
        self, *, add: Sequence[KeyRow] = (), replace: Sequence[tuple[KeyRow, KeyRow]] = ()
    ) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offboarder:
    """Off-boards the tenant of *scope*. *bound*: seconds until every process has forgotten its keys."""

    store: OffboardStore
    scope: Scope
    policy: PolicyFile
    recorder: Recorder
    bound: float
    now: Callable[[], str] = now_text

    def planned(self) -> Mapping[tuple[str, str], int]:
        """
        Return how many keys would be destroyed, by class and kind.

        Raises:
            KeyNotFound: no key was ever made for such a tenant.
        """
        if not self.store.has_tenant(self.scope):
            raise KeyNotFound(
                f"there is no tenant {self.scope.tenant!r}", hint="lacre keys list shows them"
            )
        found: Counter[tuple[str, str]] = Counter()
        for page in self._pages():
            found.update((row.scope.class_, str(row.scope.kind)) for row in page)
        return found

    def offboard(self, *, reason: str, by: str) -> dict[str, Any]:
        """
        Destroy what `planned` counts; return what the certificate says: of every key that the tenant ever had.

        Raises:
            KeyNotFound: there is no such tenant.
            SubjectHeld: a subject of it is under a legal hold. Nothing was destroyed.
            MisuseError: somebody else changed the keys at the same moment; run it again.
        """
        planned = self.planned()
        if held := self.store.held_in(self.scope):
            raise SubjectHeld(
                f"{held} subjects of the tenant are under a legal hold; nothing was destroyed",
                hint="lacre hold list",
            )
        self._record("offboard", sum(planned.values()))
        began = self.now()
        for kind in _ORDER:
            for page in self._pages():
                rows = [row for row in page if row.scope.kind is kind]
                self._destroy(rows)
        left = sum(len(page) for page in self._pages())
        if left:
            raise MisuseError(
                f"{left} keys of the tenant were made or changed meanwhile",
                hint="stop what writes for the tenant, then run the same command again",
            )
        live = later(began, dt.timedelta(seconds=self.bound))
        kept = self.policy.erasure.key_store_backups_kept
        final = None if kept is None else max(live, later(began, kept))
        waits = [] if final else ["somebody to say how long backups of the key store are kept: [erasure] key_store_backups_kept"]  # fmt: skip
        now = self.now()
        data_kept = self.policy.erasure.data_backups_kept
        return {
            "format": FORMAT,
            "kind": "tenant",
            "app": self.policy.app,
            "env": self.policy.env,
            "service": self.policy.service,
            "tenant": self.scope.tenant,
            "keystore": self.store.keystore_id,
            "reason": reason,
            "by": by,
            "issued_at": now,
            "shredded_at": began,
            "erased_from_live_at": live,
            "irrecoverable_at": final,
            "verdict": "irrecoverable" if final is not None and final <= now else "pending",
            "waits_for": waits,
            "keys_destroyed": [
                {"class": class_, "kind": kind, "number": number}
                # What an interrupted run destroyed too: its own certificate was never written.
                for (class_, kind), number in sorted(
                    self.store.destroyed_of_tenant(self.scope).items()
                )
            ],
            "remains": [
                "rows of the data with ciphertext and index values: delete them as rows",
                "KMS keys: they are the class's, and serve other tenants",
                "records of the audit log",
            ],
            "index_values": {
                "in_backups_until": None if data_kept is None else later(now, data_kept),
                "statement": STATEMENT,
            },
        }

    def _pages(self) -> Any:
        after = b""
        while page := self.store.keys_of_tenant(self.scope, after=after, limit=_PAGE):
            after = page[-1].key_id
            yield page

    def _destroy(self, rows: Sequence[KeyRow]) -> None:
        if not rows:
            return
        now = self.now()
        moved = [(row, row.stepped(KeyState.DESTROYED, changed=now)) for row in rows]
        with recorded(self.recorder.write, self.store, key_changes(row for _, row in moved)):
            self.store.change(replace=moved)

    def _record(self, step: str, keys: int) -> None:
        event = Erased(
            **who(current(), time=time.time(), tenant=self.scope.tenant),
            step=step,
            subject="",
            keys=keys,
            certificate="",
        )
        self.recorder.write([event])
