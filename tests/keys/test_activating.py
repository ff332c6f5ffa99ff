"""Minting and activating are two steps, which two credentials can do apart from each other."""

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from lacre.context import acting_as
from lacre.errors import (
    KeyDisabled,
    KeyNotFound,
    KeyServiceDenied,
    KeyServiceUnreachable,
    MisuseError,
)
from lacre.keys.hierarchy import KeyRow, KeyState
from lacre.keys.rotation import due
from tests.keys.parts import Parts, handle, scope

MINTER, ACTIVATOR = {"unwrap", "wrap", "rewrap", "rotate"}, {"mint", "wrap", "rewrap", "rotate"}
RUN_TIME = ACTIVATOR


@contextmanager
def lacking(parts: Parts, rights: set[str]) -> Iterator[None]:
    """A credential without these rights, for a block."""
    parts.service.forbidden = rights
    yield
    parts.service.forbidden = set()


def activate(parts: Parts) -> list[KeyRow]:
    with acting_as("activator", purpose="test"):
        return parts.provisioner.activate(scope(), indexed=True)


def told(rows: list[KeyRow]) -> list[tuple[str, int, str]]:
    return [(str(row.scope.kind), row.version, str(row.state)) for row in rows]


def states(parts: Parts, kind: str) -> list[tuple[int, str]]:
    return [(row.version, str(row.state)) for row in parts.store.versions(scope(kind))]


def planted(parts: Parts, kind: str, version: int) -> KeyRow:
    """A pending row that looks right and opens for nobody."""
    genuine = parts.row(kind)
    row = replace(
        genuine, key_id=os.urandom(16), version=version, state=KeyState.PENDING, revision=1, mac=None
    )  # fmt: skip
    parts.insert(row)
    return row


def test_a_minter_leaves_keys_pending_and_says_so(parts: Parts) -> None:
    """Without the right to unwrap the rows are minted once, whatever is repeated, and serve nobody."""
    with lacking(parts, MINTER):
        made = parts.create()
        again = parts.create()

    assert told(made) == [("branch", 1, "pending"), ("index", 1, "pending")]
    assert [row.key_id for row in again] == [row.key_id for row in made]
    assert len(parts.service.minted) == 2
    assert states(parts, "data") == []
    with pytest.raises(KeyNotFound):
        parts.resolver().to_encrypt(handle())


def test_an_activator_finishes_without_minting(parts: Parts) -> None:
    """It opens what was minted, makes the data key, and has nothing to do a second time."""
    with lacking(parts, MINTER):
        made = parts.create()
    with lacking(parts, ACTIVATOR):
        done = activate(parts)
        assert activate(parts) == []

    assert told(done) == [("branch", 1, "active"), ("data", 1, "active"), ("index", 1, "active")]
    assert {made[0].key_id, made[1].key_id} <= {row.key_id for row in done}
    for kind in ("branch", "data", "index"):
        parts.resolver().to_encrypt(handle(kind))
    with lacking(parts, MINTER):
        assert parts.create() == []


def test_each_credential_is_refused_what_is_not_its_own(keys: Parts) -> None:
    """The error names the right that is missing: to mint for a new tenant, to unwrap for activating."""
    with lacking(keys, ACTIVATOR), pytest.raises(KeyServiceDenied, match="right to mint"):
        keys.create(tenant="new")
    with lacking(keys, MINTER):
        keys.rotate("branch")
        with pytest.raises(KeyServiceDenied, match="right to unwrap") as refused:
            activate(keys)
        with pytest.raises(KeyServiceDenied):
            keys.rotate("data")

    assert "lacre keys activate" in refused.value.hint


def test_nothing_to_activate_is_said(parts: Parts) -> None:
    """An unprovisioned tenant is KeyNotFound, with the command that mints."""
    with pytest.raises(KeyNotFound, match="no pending") as nothing:
        activate(parts)

    assert "lacre keys create" in nothing.value.hint


def test_a_branch_key_is_rotated_by_two_credentials(keys: Parts) -> None:
    """Minted pending, once; activation demotes the old one and takes its data keys over."""
    keys.rotate("data")
    data = {row.key_id: keys.material(row).reveal() for row in keys.store.versions(scope())}
    with lacking(keys, MINTER):
        minted = keys.rotate("branch")
        repeated = keys.rotate("branch")
    before = states(keys, "branch")
    with lacking(keys, ACTIVATOR):
        done = activate(keys)

    assert minted.state is KeyState.PENDING
    assert repeated.key_id == minted.key_id
    assert before == [(2, "pending"), (1, "active")]
    assert told(done) == [("branch", 2, "active")]
    assert states(keys, "branch") == [(2, "active"), (1, "decrypt_only")]
    rows = keys.store.versions(scope())
    assert {row.parent for row in rows} == {minted.key_id.hex()}
    assert {row.key_id: keys.material(row).reveal() for row in rows} == data


def test_an_activator_may_finish_a_rotation_with_the_same_command(keys: Parts) -> None:
    """`rotate` of somebody who may unwrap goes on with the pending version instead of another."""
    with lacking(keys, MINTER):
        minted = keys.rotate("branch")
    with lacking(keys, ACTIVATOR):
        assert keys.rotate("branch").key_id == minted.key_id

    assert states(keys, "branch") == [(2, "active"), (1, "decrypt_only")]


def test_an_index_root_settles_between_its_two_credentials(keys: Parts) -> None:
    """Announced by one, it is activated by the other, and not before every process knows of it."""
    with acting_as("operator", purpose="test"):
        waiting = replace(keys.provisioner, settle=300.0)
        later = replace(waiting, now=lambda: "2999-01-01T00:00:00Z")
        with lacking(keys, MINTER):
            announced = waiting.rotate(scope("index"))
            repeated = waiting.rotate(scope("index"))
        with lacking(keys, ACTIVATOR):
            early = waiting.activate(scope(), indexed=True)
            with pytest.raises(MisuseError, match="announced"):
                waiting.rotate(scope("index"))
            done = later.activate(scope(), indexed=True)

    assert repeated.key_id == announced.key_id
    assert told(early) == [("index", 2, "pending")]
    assert 0 < waiting.settles_in(early[0]) <= 300
    assert told(done) == [("index", 2, "active")]
    assert states(keys, "index") == [(2, "active"), (1, "decrypt_only")]


@pytest.mark.parametrize("number", [2, 2**31 - 1])
def test_a_planted_row_blocks_no_rotation(keys: Parts, number: int) -> None:
    """Rows that open for nobody, up to the highest number there is, are passed over by every step."""
    for kind in ("branch", "index", "data"):
        planted(keys, kind, number)
    for kind in ("branch", "index", "data"):
        assert keys.rotate(kind).state is KeyState.ACTIVE

    assert activate(keys) == []
    for kind in ("branch", "data", "index"):
        keys.resolver().to_encrypt(handle(kind))


def test_a_planted_row_blocks_no_first_key(parts: Parts) -> None:
    """Before anything is provisioned either: whoever may unwrap goes past, a minter is told how."""
    parts.create(tenant="other")
    copied = replace(
        parts.row("branch", tenant="other"), key_id=os.urandom(16), scope=scope("branch"), version=9,
        state=KeyState.PENDING, revision=1, mac=None,
    )  # fmt: skip
    parts.insert(copied)
    with lacking(parts, MINTER):
        assert told(parts.create()) == [("branch", 9, "pending"), ("index", 1, "pending")]
    with (
        lacking(parts, ACTIVATOR),
        pytest.raises(KeyNotFound, match="that opens") as nothing,
    ):
        activate(parts)
    assert "--anew" in nothing.value.hint
    with lacking(parts, MINTER), acting_as("minter", purpose="test"):
        parts.provisioner.create(scope(), indexed=True, anew=True)
    with lacking(parts, ACTIVATOR):
        done = activate(parts)

    assert told(done)[:2] == [("branch", 1, "active"), ("data", 1, "active")]
    parts.resolver().to_encrypt(handle())


def test_a_pending_row_of_before_is_never_activated(keys: Parts) -> None:
    """An active version that is not the highest would stop encryption: older pending rows stay."""
    with lacking(keys, MINTER):
        old = keys.rotate("branch")
    with lacking(keys, MINTER), acting_as("minter", purpose="test"):
        keys.provisioner.rotate(scope("branch"), anew=True)
    with lacking(keys, ACTIVATOR):
        assert told(activate(keys)) == [("branch", 3, "active")]
        assert activate(keys) == []

    assert keys.store.row(old.key_id).state is KeyState.PENDING
    assert keys.rotate("branch").version == 4


@pytest.mark.parametrize("kind", ["branch", "index"])
def test_a_compromised_key_written_back_to_pending_is_not_activated(keys: Parts, kind: str) -> None:
    """No step leads to pending, so a row that was changed since its mint is followed, not activated."""
    stolen = keys.step(keys.row(kind), KeyState.COMPROMISED)
    flip = "UPDATE lacre_key SET state = 'pending', revision = revision + 1 WHERE key_id = ? RETURNING 1"
    keys.sql(flip, stolen.key_id)
    with pytest.raises(KeyNotFound, match="no pending"):
        activate(keys)
    with acting_as("operator", purpose="test"), pytest.raises(KeyNotFound, match="no "):
        keys.provisioner.rotate(scope(kind))
    with acting_as("operator", purpose="test"), pytest.raises(KeyDisabled, match="not authentic"):
        keys.provisioner.step(stolen.key_id, KeyState.ACTIVE)
    made = keys.create()

    assert [row.version for row in made if str(row.scope.kind) == kind] == [2]
    assert states(keys, kind) == [(2, "active"), (1, "pending")]


def test_a_disabled_index_root_written_back_to_pending_is_not_searched_under(keys: Parts) -> None:
    """It would take no MAC; a root that opens and was changed since its mint refuses the search."""
    old = keys.row("index")
    keys.rotate("index")
    keys.step(old, KeyState.DISABLED)
    flip = "UPDATE lacre_key SET state = 'pending', revision = revision + 1 WHERE key_id = ? RETURNING 1"
    keys.sql(flip, old.key_id)

    with pytest.raises(KeyDisabled, match="not authentic"):
        keys.resolver().searchable(handle("index"))


def test_a_root_put_back_to_what_it_was_when_minted_is_not_left_out(keys: Parts) -> None:
    """A process that saw it active refuses to search, and does not pass it over as planted."""
    resolver = keys.resolver(age=100)
    old = keys.row("index")
    resolver.to_encrypt(handle("index"))
    keys.rotate("index")
    back = "UPDATE lacre_key SET state = 'pending', revision = 1, mac = NULL WHERE key_id = ? RETURNING 1"  # fmt: skip
    keys.sql(back, old.key_id)
    keys.clock.advance(100)

    with pytest.raises(KeyDisabled, match="went back in time"):
        resolver.searchable(handle("index"))


def test_nothing_new_comes_from_the_kms_key_of_before(keys: Parts) -> None:
    """While keys are moved, a pending row under the old KMS key opens and is not activated."""
    with lacking(keys, MINTER):
        old = keys.rotate("branch")
    names = keys.provisioner.kms_keys
    moving = replace(keys.provisioner, kms_keys=lambda of: ("local://new", *names(of)))

    with acting_as("activator", purpose="test"):
        assert moving.activate(scope(), indexed=False) == []
    assert keys.store.row(old.key_id).state is KeyState.PENDING
    assert told(activate(keys))[0] == ("branch", old.version, "active")


def test_an_outage_is_no_denial(parts: Parts) -> None:
    """A key service that does not answer stops the call, which then finishes what is pending."""
    parts.service.forbidden = set()
    real = parts.service.unwrap

    def away(*_: object) -> None:
        raise KeyServiceUnreachable("the key service did not answer")

    parts.service.unwrap = away  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyServiceUnreachable):
        parts.create()
    parts.service.unwrap = real  # type: ignore[method-assign]
    made = parts.create()

    assert told(made) == [("branch", 1, "active"), ("data", 1, "active"), ("index", 1, "active")]
    assert states(parts, "branch") == [(1, "active")]


def test_the_run_time_needs_one_right(keys: Parts) -> None:
    """With the right to unwrap alone every kind of key is used."""
    with lacking(keys, RUN_TIME):
        resolver = keys.resolver()
        for kind in ("branch", "data", "index"):
            resolver.to_encrypt(handle(kind))


def test_what_is_due_names_the_step_of_the_other_credential(keys: Parts) -> None:
    """A minted branch key that waits is due, by the command that activates it."""
    with lacking(keys, MINTER):
        minted = keys.rotate("branch")
    found = due(keys.store.rows(), period=lambda _: None, now=dt.datetime.now(dt.UTC))

    assert [(item.row.key_id, item.do) for item in found] == [
        (minted.key_id, "lacre keys activate --tenant default --class pii")
    ]
