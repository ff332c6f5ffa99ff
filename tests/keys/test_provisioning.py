"""Keys are made whole or resumed, changed one at a time, and never on the word of the key store."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from lacre.context import acting_as
from lacre.errors import (
    ConfigurationError,
    EvidenceUnavailable,
    KeyDisabled,
    KeyNotFound,
    LacreError,
    MisuseError,
    NoPrincipal,
    Tampered,
)
from lacre.keys.hierarchy import KeyState
from tests.components.key_stores import KeptInSQLite
from tests.keys.parts import Parts, handle, scope

KINDS = ("branch", "data", "index")


def states(parts: Parts, kind: str) -> list[tuple[int, str]]:
    return [(row.version, str(row.state)) for row in parts.store.versions(scope(kind))]


def test_create_makes_each_key_once(parts: Parts) -> None:
    """Branch, data and index, active; a second call makes none and says so."""
    made = parts.create()

    assert [str(row.scope.kind) for row in made] == ["branch", "data", "index"]
    assert parts.create() == []
    assert {kind: states(parts, kind) for kind in KINDS} == {
        kind: [(1, "active")] for kind in KINDS
    }


def test_every_change_is_in_the_evidence_before_it_is_made(parts: Parts) -> None:
    """One event for each key and state, and no change where it cannot be recorded."""
    parts.create()
    assert [(e.kind, e.version, e.state) for e in parts.sink.of("key")] == [  # type: ignore[attr-defined]
        (kind, 1, state) for kind in KINDS for state in ("pending", "active")
    ]
    parts.sink.failing = OSError("full")
    for kind in KINDS:
        with pytest.raises(EvidenceUnavailable):
            parts.rotate(kind)
        with pytest.raises(EvidenceUnavailable):
            parts.step(parts.row(kind), KeyState.DISABLED)
        assert states(parts, kind) == [(1, "active")]
    parts.sink.failing = None


def test_nobody_acting_makes_no_key(parts: Parts) -> None:
    """A key change is somebody's."""
    with pytest.raises(NoPrincipal):
        parts.provisioner.create(scope(), indexed=True)

    assert [row for row in parts.store.rows() if row.state is KeyState.ACTIVE] == []


@pytest.mark.parametrize("fails_at", range(6))
def test_create_finishes_what_was_interrupted(parts: Parts, fails_at: int) -> None:
    """Stopped before any of its six writes, the next call completes it with one key of each kind."""
    real = parts.store.change
    calls = iter(range(100))

    def change(**rows: Any) -> None:
        if next(calls) == fails_at:
            raise KeyboardInterrupt
        real(**rows)

    parts.store.change = change  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        parts.create()
    parts.store.change = real  # type: ignore[method-assign]
    parts.create()

    assert {kind: states(parts, kind) for kind in KINDS} == {
        kind: [(1, "active")] for kind in KINDS
    }
    resolver = parts.resolver()
    for kind in KINDS:
        resolver.to_encrypt(handle(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_rotate_makes_the_next_version_and_keeps_the_old_readable(keys: Parts, kind: str) -> None:
    """The new version encrypts, the old one decrypts, values keep their key."""
    old = keys.row(kind)
    data = keys.material(keys.row("data")).reveal()
    new = keys.rotate(kind)

    assert states(keys, kind) == [(2, "active"), (1, "decrypt_only")]
    resolver = keys.resolver()
    assert resolver.to_encrypt(handle(kind)).key_id == new.key_id
    assert resolver.to_decrypt(handle(kind), old.key_id).key_id == old.key_id
    if kind != "data":
        assert keys.material(keys.row("data")).reveal() == data


def test_a_new_branch_key_takes_over_every_data_key(keys: Parts) -> None:
    """All versions, whatever their state: the old branch key can then be destroyed and nothing is lost."""
    keys.rotate("data")
    keys.rotate("data")
    keys.step(keys.store.versions(scope())[1], KeyState.DISABLED)
    before = {row.key_id: keys.material(row).reveal() for row in keys.store.versions(scope())}
    old = keys.row("branch")
    new = keys.rotate("branch")
    keys.step(keys.store.row(old.key_id), KeyState.DESTROYED)

    rows = keys.store.versions(scope())
    assert {row.parent for row in rows} == {new.key_id.hex()}
    assert {row.key_id: keys.material(row).reveal() for row in rows} == before
    assert [str(row.state) for row in rows] == ["active", "disabled", "decrypt_only"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("to", [KeyState.DISABLED, KeyState.COMPROMISED, KeyState.DESTROYED])
def test_a_key_that_stopped_being_active_can_be_followed(
    keys: Parts, kind: str, to: KeyState
) -> None:
    """After an incident the next version is one command away, and the old one stays what it is."""
    if (kind, to) == ("branch", KeyState.DESTROYED):
        keys.step(keys.row("data"), KeyState.DESTROYED)
    keys.step(keys.row(kind), to)
    new = keys.rotate(kind)

    assert states(keys, kind) == [(2, "active"), (1, str(to))]
    assert keys.resolver().to_encrypt(handle(kind)).key_id == new.key_id


def test_nothing_to_rotate_is_said(parts: Parts) -> None:
    """A scope that was never provisioned, and one with a pending row only."""
    for kind in KINDS:
        with pytest.raises(KeyNotFound):
            parts.rotate(kind)


def test_a_pending_row_somebody_inserted_changes_nothing(keys: Parts) -> None:
    """`create` does not try to activate it, `rotate` goes past it and leaves it no number."""
    row = keys.row("index")
    keys.insert(replace(row, key_id=b"p" * 16, version=7, state=KeyState.PENDING, mac=None))

    assert keys.create() == []
    assert keys.rotate("index").version == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_invented_state_is_not_built_upon(keys: Parts, kind: str) -> None:
    """A key that SQL made active again gets no right MAC from a rotation, and wraps nothing."""
    row = keys.row(kind)
    keys.step(row, KeyState.COMPROMISED)
    keys.edit(row, "state", "active")

    uses: list[Callable[[], object]] = [
        lambda: keys.rotate(kind),
        lambda: keys.step(row, KeyState.DECRYPT_ONLY),
    ]
    if kind == "branch":
        uses.append(lambda: keys.rotate("data"))
    for use in uses:
        with pytest.raises(KeyDisabled, match="not authentic"):
            use()
        with pytest.raises(LacreError):
            keys.resolver().to_encrypt(handle(kind))


def test_a_data_key_is_made_under_the_highest_branch_key_only(keys: Parts, tmp_path: Any) -> None:
    """With the branch key disabled there is no new data key, and none under an older one."""
    keys.rotate("branch")
    keys.step(keys.row("branch"), KeyState.DISABLED)

    with pytest.raises(KeyDisabled, match="wraps no new key"):
        keys.rotate("data")


def test_an_edited_row_is_not_rotated_into_a_right_one(keys: Parts) -> None:
    """Re-wrapping authenticates first."""
    keys.edit(keys.row("data"), "created", "2020-01-01T00:00:00Z")
    with pytest.raises(Tampered):
        keys.rotate("branch")

    assert states(keys, "branch") == [(1, "active")]


def test_a_circle_of_parents_is_refused(keys: Parts) -> None:
    """Provisioning ends with an error where a branch key names itself as its parent."""
    branch = keys.row("branch")
    keys.edit(branch, "parent", branch.key_id.hex())

    with pytest.raises((Tampered, ConfigurationError)):
        keys.rotate("data")


@pytest.mark.parametrize("kind", KINDS)
def test_enable_brings_a_key_back_to_its_place(keys: Parts, kind: str) -> None:
    """The highest version becomes active, an older one decrypts only."""
    old = keys.row(kind)
    new = keys.rotate(kind)
    for row, back in ((new, KeyState.ACTIVE), (old, KeyState.DECRYPT_ONLY)):
        keys.step(row, KeyState.DISABLED)
        with acting_as("operator", purpose="test"):
            assert keys.provisioner.enable(row.key_id).state is back


def test_a_key_nobody_has_is_not_stepped(keys: Parts) -> None:
    """An unknown id is KeyNotFound."""
    with acting_as("operator", purpose="test"), pytest.raises(KeyNotFound):
        keys.provisioner.step(os.urandom(16), KeyState.DISABLED)


def test_destroyed_is_final_and_leaves_no_wrapped_bytes(keys: Parts) -> None:
    """No step leads back, and the bytes are in no page of SQLite's file."""
    row = keys.row("data")
    wrapped = row.wrapped or b""
    file = keys.place.path if isinstance(keys.place, KeptInSQLite) else None
    assert file is None or wrapped in file.read_bytes()
    keys.step(row, KeyState.DESTROYED)

    for state in KeyState:
        with pytest.raises(MisuseError, match="destroyed does not become"):
            keys.step(row, state)
    keys.store.close()
    assert keys.store.row(row.key_id).wrapped is None
    if file is not None:
        assert wrapped not in file.read_bytes()
        assert wrapped[75:] not in file.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_two_operators_at_once_make_one_version(keys: Parts, kind: str) -> None:
    """One wins, the other is told; there is one active version and no gap."""

    def rotate(_: int) -> str:
        try:
            return f"made {keys.rotate(kind).version}"
        except MisuseError:
            return "lost"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(rotate, range(8)))

    versions = states(keys, kind)
    assert [state for _, state in versions].count("active") == 1
    assert [version for version, _ in versions] == list(range(len(versions), 0, -1))
    assert sorted(name for name in found if name != "lost") == sorted(
        f"made {n}" for n in range(2, len(versions) + 1)
    )


def test_two_operators_at_once_create_one_of_each(parts: Parts) -> None:
    """Racing creations leave one active key of each kind, and a repetition finishes."""

    def create(_: int) -> None:
        try:
            parts.create()
        except MisuseError:
            return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    parts.create()

    assert {kind: states(parts, kind) for kind in KINDS} == {
        kind: [(1, "active")] for kind in KINDS
    }


class TestAnIndexRotation:
    """An index root is announced first and activated when every process may know of it."""

    def test_takes_two_calls_a_settling_time_apart(self, parts: Parts) -> None:
        """The first call returns a pending root; an early second one says how long; a late one activates."""
        parts.create()
        with acting_as("operator", roles={"operator"}, purpose="rotation"):
            waiting = replace(parts.provisioner, settle=300.0)
            announced = waiting.rotate(scope("index"))
            with pytest.raises(MisuseError, match="announced") as early:
                waiting.rotate(scope("index"))
            later = replace(waiting, now=lambda: "2999-01-01T00:00:00Z")
            activated = later.rotate(scope("index"))

        assert announced.state is KeyState.PENDING
        assert "again in" in early.value.hint
        assert activated.key_id == announced.key_id
        assert [row.state for row in parts.store.versions(scope("index"))] == [
            KeyState.ACTIVE,
            KeyState.DECRYPT_ONLY,
        ]

    def test_a_process_that_missed_the_activation_still_finds_everything(
        self, parts: Parts
    ) -> None:
        """With a cache from before the activation, but not from before the announcement, both roots are asked."""
        parts.create()
        with acting_as("operator", roles={"operator"}, purpose="rotation"):
            announced = replace(parts.provisioner, settle=300.0).rotate(scope("index"))
            stale = parts.resolver()
            before = {key.key_id for key in stale.searchable(handle("index"))}
            replace(parts.provisioner, settle=0.0).rotate(scope("index"))
            after = {key.key_id for key in stale.searchable(handle("index"))}

        assert announced.key_id in before
        assert before == after
        assert len(before) == 2

    def test_a_planted_announcement_says_nothing(self, parts: Parts) -> None:
        """A pending root that somebody inserted without being able to mint is neither asked nor activated."""
        parts.create()
        with acting_as("operator", roles={"operator"}, purpose="rotation"):
            genuine = parts.store.versions(scope("index"))[0]
            planted = replace(
                genuine, key_id=os.urandom(16), version=2, state=KeyState.PENDING, mac=None
            )
            parts.store.change(add=[planted])
            asked = {key.key_id for key in parts.resolver().searchable(handle("index"))}
            rotated = replace(parts.provisioner, settle=0.0).rotate(scope("index"))

        assert asked == {genuine.key_id}
        assert rotated.version == 4
