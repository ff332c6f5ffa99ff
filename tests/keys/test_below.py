# SPDX-License-Identifier: Apache-2.0
"""After the rotation of a branch key: subject keys under the new one, in pages, whoever writes meanwhile."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lacre.context import acting_as
from lacre.keys import below
from lacre.keys.below import Below
from lacre.keys.hierarchy import KeyRow, KeyState
from tests.components.key_stores import KeyStorePlace
from tests.keys.parts import Parts, scope, whose


@pytest.fixture
def keys(place: KeyStorePlace) -> Iterator[Parts]:
    """A tenant with 30 subjects under a branch key that was rotated since, and another tenant's."""
    made = Parts.at(place)
    for tenant in ("default", "t2"):
        made.create(tenant=tenant)
    with acting_as("svc", purpose="test", across_yield=True):
        for tenant in ("default", "t2"):
            made.resolver().to_encrypt_all([whose(str(n), tenant=tenant) for n in range(30)])
        made.rotate("branch")
        yield made
    made.close()


def subject_rows(keys: Parts, **where: str) -> list[KeyRow]:
    return list(keys.store.subject_page(scope(**where)))


def run(keys: Parts, **more: Any) -> below.TakenOver:
    return Below(store=more.pop("store", keys.store), resolver=keys.resolver()).take_over(scope())


@pytest.mark.parametrize("page", [7, 500])
def test_every_key_goes_under_the_new_one(
    keys: Parts, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys stay what they are, with state, revision and MAC; another tenant's are left alone; a second run does nothing."""
    monkeypatch.setattr(below, "_PAGE", page)
    before = {row.key_id: row for row in subject_rows(keys)}
    material = {n: keys.material(row).reveal() for n, row in before.items()}
    others = subject_rows(keys, tenant="t2")
    done = run(keys)

    assert (done.moved, done.left) == (30, 0)
    branch = keys.row("branch")
    for row in subject_rows(keys):
        old = before[row.key_id]
        assert row.parent == branch.key_id.hex() != old.parent
        assert replace(row, parent=old.parent, wrapped=old.wrapped) == old
        assert keys.material(row).reveal() == material[row.key_id]
    assert subject_rows(keys, tenant="t2") == others
    assert run(keys) == below.TakenOver(moved=0, current=30, left=0)
    handle = whose("7")
    assert keys.resolver().to_encrypt(handle).key_id in material


class Interrupted(Exception):
    """In place of a kill."""


class Store:
    """The key store, which somebody else changes, or that fails, at each of its changes."""

    def __init__(self, keys: Parts, meanwhile: Any) -> None:
        self._store = keys.store
        self._meanwhile = meanwhile
        self.subject_page = keys.store.subject_page

    def change(
        self, *, add: Sequence[KeyRow] = (), replace: Sequence[tuple[KeyRow, KeyRow]] = ()
    ) -> None:
        self._meanwhile(replace)
        self._store.change(add=add, replace=replace)


def test_an_interrupted_run_is_gone_on_with(keys: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before each page in turn: every key opens at every moment, and the next run does the rest."""
    monkeypatch.setattr(below, "_PAGE", 10)
    for stopped in range(1, 4):
        calls = 0

        def stop(_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise Interrupted

        if stopped < 3:
            with pytest.raises(Interrupted):
                run(keys, store=Store(keys, stop))
        resolver = keys.resolver()
        assert all(resolver.to_encrypt(whose(str(n))) for n in range(30))
        assert len([row for row in subject_rows(keys) if row.parent == keys.row("branch").key_id.hex()]) >= 10 * min(stopped, 2)  # fmt: skip
    assert run(keys).left == 0
    assert {row.parent for row in subject_rows(keys)} == {keys.row("branch").key_id.hex()}


def test_who_is_changed_meanwhile_is_left_alone(keys: Parts) -> None:
    """A key that somebody destroys in between stays destroyed; the other keys of its page are done."""
    victim = subject_rows(keys)[3]
    gone = victim.stepped(KeyState.DESTROYED, changed="later")

    def destroy(_: Any) -> None:
        if keys.store.row(victim.key_id).wrapped is not None:
            keys.store.change(replace=[(victim, gone)])

    done = run(keys, store=Store(keys, destroy))

    assert (done.moved, done.left) == (29, 1)
    assert keys.store.row(victim.key_id) == gone


def test_a_row_that_does_not_open_is_left_and_named(keys: Parts) -> None:
    """Edited or swapped, it is never wrapped anew, which would make it authentic; it holds up no other."""
    one, two = subject_rows(keys)[:2]
    keys.sql("UPDATE lacre_key SET wrapped = ? WHERE key_id = ?", two.wrapped, one.key_id)
    done = run(keys)

    assert (done.moved, done.left, done.unreadable) == (29, 0, (one.key_id,))
    branch = keys.row("branch").key_id.hex()
    assert [row.key_id for row in subject_rows(keys) if row.parent != branch] == [one.key_id]
