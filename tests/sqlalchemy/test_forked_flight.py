# SPDX-License-Identifier: Apache-2.0
"""A fork while keys are under way: the child asks for itself."""

import asyncio
import os
import threading
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from lacre import Lacre
from lacre.keys.hierarchy import KeyKind
from lacre.keys.resolver import ScopeHandle
from lacre.sqlalchemy.awaiting import AwaitingApplication
from tests.sqlalchemy.conftest import Acting


def test_a_child_does_not_wait_for_its_parents_flight(
    lacre: Lacre, acting: Acting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that would answer is not there in the child, which fetches the key itself."""
    with acting("app"):
        box = lacre.field("pii", table="t", column="c", type=str)
        key_id = bytes(box.encrypt("x", row="1"))[3:19]  # type: ignore[arg-type]
    handle = ScopeHandle(lacre.guard.policy.scope(KeyKind.DATA, "pii", "default"))
    resolver: Any = AwaitingApplication(lacre).guard.resolver
    lacre.resolver.forget()
    gate, prepare, parent = threading.Event(), lacre.resolver.prepare, os.getpid()

    def held_up(*args: Any, **options: Any) -> Any:
        if os.getpid() == parent:
            gate.wait(30)
        return prepare(*args, **options)

    async def fetched() -> None:
        await asyncio.wait_for(greenlet_spawn(resolver.prepare, handle, (key_id,)), 15)

    monkeypatch.setattr(type(lacre.resolver), "prepare", lambda _, *a, **o: held_up(*a, **o))
    [flight] = resolver._flights_for(handle, {key_id})
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(fetched())
            os._exit(0 if resolver.cached(handle, key_id) is not None else 3)
        finally:
            os._exit(4)
    _, status = os.waitpid(child, 0)
    gate.set()
    flight.result()

    assert os.waitstatus_to_exitcode(status) == 0
