# SPDX-License-Identifier: Apache-2.0
"""
Who is logged in: one-time links, sessions and how often a login may fail.

A link works once and for a while; its successor is made when it was used. Sessions are in memory
and end with the process. What a browser holds is compared in constant time, and kept here as a
hash only, so that a core dump of the tables lends nobody a session. Does no HTTP.
"""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Sessions", "Visitor"]

_LINK = 15 * 60.0  # seconds in which a link is to be used
_IDLE, _LONGEST = 60 * 60.0, 12 * 60 * 60.0  # seconds a session lives without a request, and in all
_MOST = 64  # sessions; the oldest ends for a new one
_FAILURES, _WINDOW = 10, 300.0  # of one address, in so many seconds
_ADDRESSES = 1024  # that are remembered


@dataclass(slots=True, kw_only=True)
class Visitor:
    """One session. *csrf* goes into every form, and comes back with it."""

    csrf: str
    began: float
    seen: float

    def sent(self, token: str) -> bool:
        """Whether a form with *token* was one of this session's."""
        return hmac.compare_digest(self.csrf.encode(), token.encode())


class Sessions:
    """
    The sessions of one server.

    Args:
        clock: in seconds, never set back.
        linked: is told each new one-time token, to show it to whoever may log in.
    """

    def __init__(self, *, clock: Callable[[], float], linked: Callable[[str], None]) -> None:
        self._clock = clock
        self._linked = linked
        self._lock = threading.Lock()
        self._visitors: dict[bytes, Visitor] = {}
        self._failed: dict[str, list[float]] = {}
        self._token, self._made = b"", 0.0

    def link(self) -> None:
        """Make a one-time token, and forget the one before."""
        # 256 bits from the operating system: nobody guesses one, limited or not.
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._token, self._made = _hashed(token), self._clock()
        self._linked(token)

    def wait(self, address: str) -> int:
        """Return how many seconds wrong tokens from *address* are told to wait; 0 where they are not."""
        with self._lock:
            recent = self._recent(address)
            return 0 if len(recent) < _FAILURES else int(recent[0] + _WINDOW - self._clock()) + 1

    def enter(self, token: str, address: str) -> str | None:
        """
        Return what the browser keeps, where *token* is the one-time token; None where it is not.

        A token that was right is used up, whether or not the browser gets what it opened. One that
        was right and too old counts as wrong, and a new one is shown.
        """
        with self._lock:
            # Hashes are compared, so the time tells nothing of the token, its length included.
            right = hmac.compare_digest(self._token, _hashed(token)) and self._token != b""
            late = self._clock() - self._made > _LINK
            if right:
                self._token = b""
            if (not right or late) and len(self._recent(address)) < _FAILURES:
                self._failed.setdefault(address, []).append(self._clock())
                while len(self._failed) > _ADDRESSES:
                    del self._failed[next(iter(self._failed))]
        if not right:
            return None
        self.link()
        return None if late else self._entered()

    def visitor(self, kept: str) -> Visitor | None:
        """Return whose browser *kept* comes from, or None: nobody, or no longer."""
        now = self._clock()
        with self._lock:
            visitor = self._visitors.get(_hashed(kept))
            if visitor is None:
                return None
            if now - visitor.seen > _IDLE or now - visitor.began > _LONGEST:
                del self._visitors[_hashed(kept)]
                return None
            visitor.seen = now
            return visitor

    def leave(self, kept: str) -> None:
        """End a session."""
        with self._lock:
            self._visitors.pop(_hashed(kept), None)

    def _entered(self) -> str:
        kept, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            while len(self._visitors) >= _MOST:
                del self._visitors[min(self._visitors, key=lambda each: self._visitors[each].seen)]
            self._visitors[_hashed(kept)] = Visitor(
                csrf=secrets.token_urlsafe(32), began=now, seen=now
            )
        return kept

    def _recent(self, address: str) -> list[float]:
        begin = self._clock() - _WINDOW
        recent = [each for each in self._failed.get(address, ()) if each > begin]
        if recent:
            self._failed[address] = recent
        else:
            self._failed.pop(address, None)
        return recent


def _hashed(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
