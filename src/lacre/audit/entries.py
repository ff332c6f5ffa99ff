# SPDX-License-Identifier: Apache-2.0
"""
Entries: the one written form of events, for every sink, and how they are read again.

An entry is a JSON object on one line: members sorted, no spaces, ASCII, so that equal events are
equal bytes and no text in one can end its line. The catalogue is closed: an action that is not in
`CATALOGUE`, or a member its event does not have, is refused when read. Implements
``spec/evidence-log.md``, section 2. Does not store or sign entries.
"""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lacre.audit import events, governing, keeping
from lacre.audit.event import Event
from lacre.errors import Tampered

__all__ = ["ALWAYS", "CATALOGUE", "COMMON", "Entry", "Stamp", "moment", "written"]

# `json.dumps` with other options than its own makes an encoder for each call.
_ENCODED = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_DECODED = json.JSONDecoder().decode

_NAMED = {
    name: kind
    for module in (events, governing, keeping)
    for name in module.__all__
    if isinstance(kind := getattr(module, name), type)
    and issubclass(kind, Event)
    and "action" in vars(kind)
}

# Every event there is, by its action.
CATALOGUE: Mapping[str, type[Event]] = {kind.action: kind for kind in _NAMED.values()}

# The members of every entry, and those that are there where they are known.
ALWAYS = frozenset(
    [
        "id",
        "time",
        "action",
        "principal",
        "roles",
        "purpose",
        "tenant",
        "app",
        "env",
        "service",
        "code",
        "success",
        "status",
    ]
)
_WHERE_KNOWN = frozenset(["correlation", "ip", "agent", "reason", "writer", "number"])
COMMON = ALWAYS | _WHERE_KNOWN

_SHAPES: set[tuple[str, ...]] = set()  # actions with members in an order that were found right
_SHAPES_KEPT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What every entry of one process says: whose it is. *code* is the version of its code, or empty."""

    app: str
    env: str
    service: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry as it was read: *members* are all of them, checked against the catalogue."""

    members: Mapping[str, Any]

    @property
    def id(self) -> str:
        """32 hex digits."""
        return str(self.members["id"])

    @property
    def action(self) -> str:
        return str(self.members["action"])

    @property
    def time(self) -> dt.datetime:
        """When it happened, as its process's clock said."""
        return dt.datetime.fromisoformat(self.members["time"])

    @classmethod
    def read(cls, line: bytes) -> "Entry":
        """
        Read one entry.

        Raises:
            Tampered: it is no entry: no JSON, an action or a member that the catalogue has not, or a member missing.
        """
        try:
            found = _DECODED(line.decode("ascii"))
            shape = (found["action"], *found)
            if shape not in _SHAPES:
                _check_shape(*shape)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise Tampered.signed("an entry of the log") from None
        return cls(found)


def _check_shape(action: str, *names: str) -> None:
    needed = ALWAYS | CATALOGUE[action].members
    if not needed <= set(names) <= needed | _WHERE_KNOWN:
        raise ValueError
    # What lacre writes has few shapes, and a verifier reads millions of entries; what others write
    # in its place may have any order of its members, and is not to fill memory.
    if len(_SHAPES) < _SHAPES_KEPT:
        _SHAPES.add((action, *names))


def moment(time: float) -> str:
    """Return RFC 3339 text in UTC of *time*, seconds since 1970, to the microsecond."""
    when = dt.datetime.fromtimestamp(time, dt.UTC).isoformat(timespec="microseconds")
    return when.replace("+00:00", "Z")


def written(event: Event, stamp: Stamp, *, writer: str = "", number: int = 0) -> bytes:
    """
    Return the entry of *event*, without a newline.

    Args:
        writer: which recorder numbers it; empty for events that ride in a transaction of somebody
            else's, which may roll back.
        number: its place in what that recorder handed over, from 1, without a gap.
    """
    origin, status = event.origin, event.judged()
    members = {
        "id": event.id,
        "time": moment(event.time),
        "action": event.action,
        "principal": event.principal,
        "roles": list(event.roles),
        "purpose": event.purpose,
        "tenant": event.tenant,
        "app": stamp.app,
        "env": stamp.env,
        "service": stamp.service,
        "code": stamp.code,
        "success": status not in ("prevented", "failed"),
        "status": str(status),
        **event.details(),
    }
    where = {
        "correlation": origin.correlation,
        "ip": origin.ip,
        "agent": origin.agent,
        "reason": origin.reason,
    }
    members |= {name: value for name, value in where.items() if value}
    if writer:
        members |= {"writer": writer, "number": number}
    return _ENCODED(members).encode()
