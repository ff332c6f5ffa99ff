# SPDX-License-Identifier: Apache-2.0
"""
Who acts, as what, and why.

`acting_as` opens a block in which a principal acts for a purpose; `current` finds it. A block
that is over leaves an *ended* acting behind in every context that still holds it (a leaked
generator, a background task, a process forked inside the block), and that is refused: never the
previous principal, never nobody.

Does not prove who the principal is: the application declares it, the policy decides on it, the
audit log records it (``docs/threat-model.md``).
"""

import ipaddress
import os
import re
import sys
from collections.abc import Iterable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from types import TracebackType
from typing import Any, final

from lacre.errors import ActingEnded, ConfigurationError, MisuseError, NoPrincipal

__all__ = ["NOWHERE", "Acting", "Origin", "acting_as", "current", "nobody"]

_current: ContextVar["Acting | None"] = ContextVar("lacre_acting", default=None)

# How many forks lie between this process and the first one. A block is of the process that
# opened it: a child never hears of its end, and the worker of a pool that was started inside a
# request would act as that request's principal for every later one.
_forks = 0


def _after_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


# What a caller is told apart by: no spaces, no control characters, nothing a person would write.
_REASON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:#/-]{0,63}", re.ASCII)
_CORRELATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_AGENT = 256  # characters of a user agent that are kept
_NAME = 255  # of a principal, a role, a purpose: names that every line of evidence repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """
    Where a piece of work comes from, for the record: nothing is decided on it, and nothing proved.

    *correlation* is the id that its records share, in every service it passes; *reason* a word or
    a ticket that its purpose was served for, never free text; *ip* and *agent* are the caller's
    address and user agent, as the application saw them, *agent* cut to 256 characters.

    Raises:
        ConfigurationError: a correlation id, a reason or an address that is none.
    """

    correlation: str = ""
    ip: str = ""
    agent: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if self.correlation and not _CORRELATION.fullmatch(self.correlation):
            raise ConfigurationError(
                "a correlation id is 1 to 128 letters, digits, '.', '_', ':' or '-'",
                hint="uuid.uuid4().hex is one",
            )
        if self.reason and not _REASON.fullmatch(self.reason):
            raise ConfigurationError(
                "a reason is one word or ticket of 1 to 64 characters, without spaces: free text may hold what evidence must not",
                hint='for example reason="TICKET-1234"',
            )
        if self.ip:
            try:
                ipaddress.ip_address(self.ip)
            except ValueError:
                raise ConfigurationError(
                    "that is no IP address", hint='for example ip="192.0.2.7"'
                ) from None
        # What a caller may write freely is cut, and holds no control character.
        agent = "".join(c if c.isprintable() else "\ufffd" for c in self.agent[:_AGENT])
        object.__setattr__(self, "agent", agent)


NOWHERE = Origin()


@final
class Acting:
    """One principal, in one block. Two are equal if they would be decided alike."""

    __slots__ = (
        "__weakref__",
        "application",
        "decisions",
        "ended",
        "forks",
        "identity",
        "origin",
        "principal",
        "purpose",
        "roles",
        "tenant",
    )

    def __init__(
        self,
        principal: str,
        roles: frozenset[str],
        purpose: str,
        tenant: str | None,
        application: Any = None,
        origin: Origin = NOWHERE,
    ) -> None:
        # Whose policy decides on values that no session has seen yet. No part of who acts.
        self.application = application
        self.principal = principal
        self.roles = roles
        self.purpose = purpose
        self.tenant = tenant
        self.origin = origin
        self.identity = (principal, roles, purpose, tenant)
        self.ended = False
        self.forks = _forks
        # Decisions made for this acting, by policy: they end with it.
        self.decisions: dict[Any, Any] = {}

    def __repr__(self) -> str:
        state = ", ended" if self.ended else ""
        return f"<Acting {self.principal} as {sorted(self.roles)} for {self.purpose}{state}>"


def _is_name(found: object) -> bool:
    # No line break, NUL or half of a character, which other readers of the evidence would take for more than a name.
    return isinstance(found, str) and 0 < len(found) <= _NAME and found.isprintable()


def current() -> Acting:
    """
    Return who is acting.

    Raises:
        NoPrincipal: outside every `acting_as` block.
        ActingEnded: in a context that outlived its block, or in a child forked inside it.
    """
    acting = _current.get()
    if acting is None:
        raise NoPrincipal(
            "nobody is acting",
            hint='wrap the call: with lacre.acting_as("svc:name", roles={"role"}, purpose="why"): ...',
        )
    if acting.ended:
        raise ActingEnded(
            f"the acting_as block of {acting.principal} is over, but this code still runs in its context",
            hint="open a block of its own around this code (a background task needs one of its own)",
        )
    if acting.forks != _forks:
        raise ActingEnded(
            f"the acting_as block of {acting.principal} was opened by another process, which this one was forked from",
            hint="open a block of its own in the child",
        )
    return acting


@final
class acting_as:  # noqa: N801 - reads as a verb where it is used
    """
    Act as *principal* in a ``with`` block.

    Args:
        principal: who acts, for example ``svc:kyc`` or ``user:ana``.
        roles: what they act as; the policy gives rights to roles.
        purpose: why. Required, because an access without a reason is not evidence.
        tenant: whose data. Without one the configuration's default is used.
        across_yield: allow the block inside a generator, where it stays open in the consumer's
            code between two values: meant for test fixtures. A generator that enters the block
            by way of a helper is not noticed.
        application: whose block it is; `Lacre.acting_as` passes itself.
        origin: where the work comes from, for the record.

    Raises:
        ConfigurationError: a principal, a role or a purpose is not 1 to 255 printable characters.
        MisuseError: opened inside a generator without *across_yield*, or entered twice.
    """

    __slots__ = ("_across_yield", "_acting", "_token")

    def __init__(
        self,
        principal: str,
        *,
        roles: Iterable[str] = (),
        purpose: str,
        tenant: str | None = None,
        across_yield: bool = False,
        application: Any = None,
        origin: Origin = NOWHERE,
    ) -> None:
        if not _is_name(principal):
            raise ConfigurationError(
                f"a principal is 1 to {_NAME} printable characters", hint='for example "svc:kyc"'
            )
        if isinstance(roles, str):
            raise ConfigurationError(
                "roles is a set of names, not one string", hint=f'roles={{"{roles}"}}'
            )
        roles = frozenset(roles)
        if not all(_is_name(role) for role in roles):
            raise ConfigurationError(
                f"a role is 1 to {_NAME} printable characters, the name that lacre.toml gives rights to",
                hint='for example roles={"app"}',
            )
        if not _is_name(purpose):
            raise ConfigurationError(
                f"a purpose is 1 to {_NAME} printable characters", hint='for example purpose="kyc"'
            )
        if tenant is not None and (not tenant or not isinstance(tenant, str)):
            raise ConfigurationError(
                "a tenant is a non-empty string", hint="leave it out to use the default tenant"
            )
        self._acting = Acting(principal, roles, purpose, tenant, application, origin)
        self._across_yield = across_yield
        self._token: Token[Acting | None] | None = None

    def __enter__(self) -> Acting:
        if self._token is not None or self._acting.ended:
            raise MisuseError("an acting_as block is entered once", hint="make a new one")
        if not self._across_yield and _caller_is_generator():
            raise MisuseError(
                "acting_as was opened inside a generator: between two values the consumer's code would act as this principal",
                hint="open the block around the loop that consumes the generator, or pass across_yield=True where the leak is meant",
            )
        self._token = _current.set(self._acting)
        return self._acting

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # First of all: whoever still holds this acting, in whatever context, holds an ended one.
        self._acting.ended = True
        self._acting.decisions.clear()
        token, self._token = self._token, None
        if token is not None:
            try:
                _current.reset(token)
            except ValueError:
                # Closed in another context than it was opened in (an abandoned async generator):
                # what it left there is ended, which is all that reset would have achieved.
                return


@final
class nobody:  # noqa: N801 - reads as a word where it is used
    """
    Act as nobody in a ``with`` block, whoever acts around it.

    For servers and schedulers, whose next piece of work may be started in the context of another
    one, while that one's block is still open.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _current.set(None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._token)


def _caller_is_generator() -> bool:
    # Frame 0 is this function, 1 is __enter__, 2 whoever opened the block. ExitStack opens it on
    # behalf of its caller, so contextlib's frames are looked through.
    frame = sys._getframe(2)  # noqa: SLF001 - the documented way to the caller's frame
    while frame.f_globals.get("__name__") == "contextlib" and frame.f_back is not None:
        frame = frame.f_back
    return bool(frame.f_code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR))
