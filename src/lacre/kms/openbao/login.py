# SPDX-License-Identifier: Apache-2.0
"""
The token that calls are made with, and how it stays good.

`Login` keeps the token: renewed past two thirds of its life while others go on with the one there
is, replaced when it is past it, or when the server no longer knows it. One thread does that, the
others wait for what it brings: a token or an error. Leases are counted on this machine's own clock,
from before they were asked for; neither side's date matters.

A denial is never tried again. Does not know what the token may do; revokes none when it ends, for
after a fork several processes have it.
"""

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Never, final

from lacre.errors import ConfigurationError, KeyServiceDenied, LacreError, MisuseError
from lacre.keys.resolver import since_boot
from lacre.kms.calling import TryAgain
from lacre.kms.openbao.connection import Answer, Connection, Secret, time_left
from lacre.kms.openbao.sources import Source, secret_of

__all__ = ["Login"]

_RENEWED_AT = 2 / 3  # of its life
_AGAIN = 10.0  # seconds between attempts to renew that got no answer
_UNPROVED = 60.0  # seconds in which a log-in that did not help is not repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lease:
    token: Secret
    asked: float
    life: float | None  # None: for ever, or nobody tells
    renewable: bool

    def __reduce__(self) -> Never:
        raise MisuseError("a token does not pickle or copy")

    @property
    def renews(self) -> float:
        return float("inf") if self.life is None else self.asked + _RENEWED_AT * self.life

    @property
    def ends(self) -> float:
        return float("inf") if self.life is None else self.asked + self.life


@final
class Login:
    """
    The token of a process.

    Args:
        clock: seconds that never go back, also while the machine sleeps.
    """

    def __init__(
        self, connection: Connection, source: Source, *, clock: Callable[[], float] = since_boot
    ) -> None:
        self._connection = connection
        self._source = source
        self._clock = clock
        self._lease: _Lease | None = None
        self._renew_after = 0.0
        self._doubt_after = 0.0
        self._reset()
        weak = weakref.WeakMethod(self._reset)
        os.register_at_fork(after_in_child=lambda: (method := weak()) and method())

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._tried = 0  # log-ins, with what the last one came to
        self._failure: TryAgain | LacreError | None = None

    def __repr__(self) -> str:
        return f"<Login {self._source!r}>"

    def __reduce__(self) -> Never:
        raise MisuseError("a log-in does not pickle or copy")

    def token(self) -> Secret:
        """
        Return a token that has not expired.

        Raises:
            KeyServiceDenied: the log-in was refused.
            ConfigurationError: the file of the secret cannot be used, or there is no such namespace.
            TryAgain: the server did not answer.
        """
        lease, now = self._lease, self._clock()
        if lease is None or now >= lease.ends:
            return self._replaced(lease).token
        if now >= max(lease.renews, self._renew_after) and self._lock.acquire(blocking=False):
            try:
                if self._lease is lease:
                    self._renew(lease)
                lease = self._lease or lease
            finally:
                self._lock.release()
        return lease.token

    def replaces(self, token: Secret) -> bool:
        """
        Return whether there is another token now than *token*, which the server refused.

        It is asked first whether it knows the token: if so, what was refused is the call.

        Raises:
            what `token` raises
        """
        lease = self._lease
        if lease is None or lease.token != token:
            return True  # somebody else was faster
        if self._connection.request("get", _LOOKUP, token=token).status < 400:
            return False
        # Unknown, or it may not look itself up. A new one is worth one try; where that one is
        # refused too it was the call all along, and the next refusals are not worth one each.
        if self._source.logs_in:
            if self._clock() < self._doubt_after:
                return False
        elif self._source.obtain(self._connection) == token:
            return False
        return self._replaced(lease).token != token

    def did_not_help(self) -> None:
        """Take note that a new token was refused just as the one before."""
        self._doubt_after = self._clock() + _UNPROVED

    def _replaced(self, old: _Lease | None) -> _Lease:
        tried = self._tried
        if not self._lock.acquire(timeout=time_left()):
            raise TryAgain("takes too long over a log-in")
        try:
            if self._lease is not None and self._lease is not old:
                return self._lease
            if self._tried != tried and self._failure is not None:
                raise _again(self._failure)  # what the thread found that this one waited for
            self._failure = None
            try:
                self._lease = self._obtained()
            except (TryAgain, KeyServiceDenied, ConfigurationError) as failure:
                self._failure = failure
                raise
            finally:
                self._tried += 1
            return self._lease
        finally:
            self._lock.release()

    def _obtained(self) -> _Lease:
        asked = self._clock()
        found = self._source.obtain(self._connection)
        if isinstance(found, Secret):
            told = self._connection.request("get", _LOOKUP, token=found)
            if told.status >= 400:
                # Refused, or it may not look itself up; the call that follows tells.
                return _Lease(token=found, asked=asked, life=None, renewable=False)
            life = _seconds(told.data.get("ttl"))
            return _Lease(
                token=found, asked=asked, life=life, renewable=told.data.get("renewable") is True
            )
        return _granted(found, asked)

    def _renew(self, lease: _Lease) -> None:
        asked = self._clock()
        self._renew_after = asked + _AGAIN
        try:
            if lease.renewable:
                told = self._connection.request("post", _RENEW, token=lease.token, body={})
                if told.status < 400:
                    renewed = _granted(told, asked)
                    # Near the longest life it may have, a renewal gives less and less.
                    if renewed.life is None or lease.life is None or renewed.life > lease.life / 2:
                        self._lease = renewed
                        return
            self._lease = self._obtained()
        except (TryAgain, KeyServiceDenied, ConfigurationError):
            # The token there is is good still: no reason to refuse what is asked with it.
            return


_LOOKUP: Final = "auth/token/lookup-self"
_RENEW: Final = "auth/token/renew-self"


def _granted(answer: Answer, asked: float) -> _Lease:
    lease = _lease(answer.body.get("auth"), asked)
    if lease is None:
        raise TryAgain("does not answer as OpenBao does")
    return lease


def _lease(granted: object, asked: float) -> _Lease | None:
    # Raises nothing: a traceback would have the token.
    token = secret_of(granted.get("client_token")) if isinstance(granted, dict) else None
    if token is None or not isinstance(granted, dict):
        return None
    return _Lease(
        token=token,
        asked=asked,
        life=_seconds(granted.get("lease_duration")),
        renewable=granted.get("renewable") is True,
    )


def _again(failure: TryAgain | LacreError) -> TryAgain | LacreError:
    # Of its own for each thread: an exception that is raised grows by the frames it passes.
    if isinstance(failure, TryAgain):
        return TryAgain(failure.reason, after=failure.after)
    return type(failure)(str(failure), hint=failure.hint)


def _seconds(found: object) -> float | None:
    # Zero is a token that does not expire.
    return float(found) if isinstance(found, int) and found > 0 else None
