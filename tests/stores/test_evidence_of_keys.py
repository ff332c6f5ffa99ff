# SPDX-License-Identifier: Apache-2.0
"""A changed key and the record of its change are in one transaction, where the key store has an outbox."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.audit.entries import Entry, Stamp
from lacre.context import acting_as
from lacre.errors import MisuseError
from lacre.keys.hierarchy import KeyKind, KeyState
from lacre.keys.recording import key_changes, recorded
from lacre.stores.log.schema import OUTBOX
from lacre.stores.sql import SQLKeyStore
from tests.components.key_stores import KeyStorePlace
from tests.keys.parts import Parts, scope
from tests.stores.rows import ROW

STAMP = Stamp(app="shop", env="test", service="shop")


@pytest.fixture
def parts(place: KeyStorePlace) -> Iterator[Parts]:
    """A key store that records its changes, and what changes it."""
    made = Parts.at(place)
    made.store.keep_evidence(STAMP)
    with acting_as("user:op", roles={"operator"}, purpose="test", across_yield=True):
        yield made
    made.store.close()


def waiting(store: SQLKeyStore) -> list[tuple[str, str, str]]:
    """What waits for the sequencer: action, key and state."""
    with store._reading() as connection:
        found = connection.execute(sa.select(OUTBOX.c.entry).order_by(OUTBOX.c.position)).scalars()
        entries = [Entry.read(bytes(entry)).members for entry in found]
    assert all(each["principal"] == "user:op" and "number" not in each for each in entries)
    return [(each["action"], each["key"], each["state"]) for each in entries]


def test_a_keys_life_is_recorded_beside_it(parts: Parts) -> None:
    """Made, activated, rotated, disabled: each is in the outbox, and the recorder got none of it."""
    provisioner = parts.provisioner
    provisioner.create(scope(), indexed=True)
    fresh = provisioner.rotate(scope())
    provisioner.step(fresh.key_id, KeyState.DISABLED)
    told = waiting(parts.store)
    states = {(row.key_id.hex(), str(row.state)) for row in parts.store.rows()}

    assert parts.sink.events == []
    assert states <= {(key, state) for _, key, state in told}
    assert {state for _, _, state in told} >= {"pending", "active", "decrypt_only", "disabled"}


def test_a_change_that_does_not_happen_is_not_recorded(parts: Parts) -> None:
    """Somebody else was first: neither the change nor its record is there."""
    parts.store.change(add=[ROW])
    again = replace(ROW, key_id=b"\x09" * 16)
    with (
        pytest.raises(MisuseError),
        recorded(parts.recorder.write, parts.store, key_changes([again])),
    ):
        parts.store.change(add=[again])
    parts.store.change(replace=[(ROW, ROW)])

    assert waiting(parts.store) == []


def test_a_record_without_a_change_is_refused(parts: Parts) -> None:
    """What promises a change and makes none is a mistake, and is told so."""
    with (
        pytest.raises(MisuseError, match="nothing changed"),
        recorded(parts.recorder.write, parts.store, key_changes([ROW])),
    ):
        pass

    assert waiting(parts.store) == []


@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
def test_a_kill_leaves_both_or_neither(parts: Parts, when: str) -> None:
    """Killed with the statements sent and not committed, or just after: the key and its record agree."""
    parts.store.close()
    pid = os.fork()
    if pid == 0:
        try:
            store = parts.store

            def kill(*_: Any) -> None:
                os.kill(os.getpid(), signal.SIGKILL)

            if when == "before the commit":
                sa.event.listen(store._database.writer, "commit", kill)
            with (
                acting_as("user:op", roles={"operator"}, purpose="test"),
                recorded(parts.recorder.write, store, key_changes([ROW])),
            ):
                store.change(add=[ROW])
            kill()
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    rows = [row.key_id.hex() for row in parts.store.rows()]
    told = [key for _, key, _ in waiting(parts.store)]

    assert status == -signal.SIGKILL
    assert rows == told == ([ROW.key_id.hex()] if when == "after the commit" else [])


def test_a_subjects_first_key_too(parts: Parts) -> None:
    """What the run time makes is recorded as what an operator makes."""
    from lacre.keys.hierarchy import subject_digest
    from lacre.keys.resolver import ScopeHandle

    parts.provisioner.create(scope(), indexed=False)
    before = len(waiting(parts.store))
    whose = ScopeHandle(scope(KeyKind.SUBJECT))
    made = parts.resolver().to_encrypt(whose.of_subject(subject_digest(whose.scope, "42")))
    told = waiting(parts.store)[before:]

    assert told == [("key", made.key_id.hex(), str(KeyState.ACTIVE))]
    assert parts.sink.events == []
