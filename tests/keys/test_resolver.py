"""The resolver gives a key to the scope that owns it, for as long as it may, and to nobody else."""

import os
import threading
import time
import traceback
from dataclasses import replace
from typing import Any

import pytest

from lacre.errors import (
    ConfigurationError,
    KeyDestroyed,
    KeyDisabled,
    KeyNotFound,
    KeyUnavailable,
    LacreError,
    Tampered,
)
from lacre.keys.hierarchy import KeyState
from lacre.keys.resolver import since_boot
from lacre.sensitive import KeyMaterial
from lacre.stores.contents import KeyStoreContents
from tests.keys.parts import PROVISIONED, Parts, handle, kms_key, planted, scope


def test_a_scope_that_was_never_provisioned_is_an_error_that_names_it(keys: Parts) -> None:
    """An unknown tenant is KeyNotFound, with its name and the command that makes it."""
    with pytest.raises(KeyNotFound, match="'nowhere'") as caught:
        keys.resolver().to_encrypt(handle(tenant="nowhere"))

    assert caught.value.hint == "lacre keys create --tenant nowhere --class pii"


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "t2"},
        {"class_": "banking"},
        {"app": "other"},
        {"env": "prod"},
        {"service": "other"},
        {"subject": "s1"},
    ],
)
def test_a_key_of_another_scope_is_refused_before_any_unwrap(
    keys: Parts, other: dict[str, str]
) -> None:
    """One part of the scope different: Tampered, no call of the key service, nothing cached."""
    key_id = keys.row().key_id
    resolver = keys.resolver()

    with pytest.raises(Tampered):
        resolver.to_decrypt(handle(**other), key_id)
    resolver.prepare(handle(**other), [key_id])

    assert keys.service.unwrapped == []
    with pytest.raises(Tampered):
        resolver.to_decrypt(handle(**other), key_id)


def test_keys_of_one_kind_never_serve_another(keys: Parts) -> None:
    """A branch key or index root named by a value is refused like an unknown key."""
    resolver = keys.resolver()

    for wanted in PROVISIONED:
        for held in PROVISIONED:
            if held is not wanted:
                with pytest.raises(Tampered):
                    resolver.to_decrypt(handle(str(wanted)), keys.row(str(held)).key_id)
    assert keys.service.unwrapped == []


def test_prefetch_leaves_other_scopes_keys_alone(keys: Parts) -> None:
    """A result set that names another tenant's key does not bring that key into this process."""
    keys.create(tenant="t2", class_="pii")
    mine, theirs = keys.row().key_id, keys.row(tenant="t2").key_id
    keys.service.unwrapped.clear()
    resolver = keys.resolver()

    resolver.prepare(handle(), {mine, theirs, os.urandom(16)})
    calls = len(keys.service.unwrapped)
    resolver.to_decrypt(handle(), mine)

    assert calls == len(keys.service.unwrapped) == 1
    with pytest.raises(Tampered):
        resolver.to_decrypt(handle(), theirs)


def test_a_thousand_values_cost_one_call_for_each_kms_key(keys: Parts) -> None:
    """Key-service calls grow with KMS keys in use, never with values or rows."""
    resolver = keys.resolver()
    data = resolver.to_encrypt(handle())
    for _ in range(1000):
        assert resolver.to_decrypt(handle(), data.key_id).material.reveal()
        resolver.searchable(handle("index"))

    assert sorted(keys.service.unwrapped) == ["local://pii-fields", "local://pii-index"]


COLUMNS: list[tuple[str, Any]] = [
    ("app", "other"),
    ("env", "prod"),
    ("service", "other"),
    ("tenant", "t2"),
    ("class", "banking"),
    ("subject", "s1"),
    ("kind", "index"),
    ("kind", "subject"),
    ("kind", "nonsense"),
    ("version", 2),
    ("version", "two"),
    ("suite", 2),
    ("created", "2020-01-01T00:00:00Z"),
    ("created", b"\x00"),
    ("created", "x" * 70_000),
    ("keystore", "00" * 16),
    ("keystore", b"\x00"),
    ("parent", "00" * 16),
    ("parent", "no hex"),
    ("parent", "local://pii-index"),
    ("parent", "aws-kms://stranger/key"),
    ("parent", b"://"),
    ("wrapped", b""),
    ("wrapped", b"\xc1\x01\x00" + bytes(120)),
    ("wrapped", "text"),
    ("wrapped", 5),
    ("state", "decrypt_only"),
    ("state", "disabled"),
    ("state", "pending"),
    ("state", "nonsense"),
    ("revision", 1),
    ("revision", 99),
    ("changed", "2020-01-01T00:00:00Z"),
    ("changed", b"\x00"),
    ("changed", "x" * 70_000),
    ("mac", None),
    ("mac", bytes(32)),
    ("mac", b""),
    ("mac", "text"),
    ("key_id", bytes(16)),
    ("key_id", 7),
    ("digest", bytes(32)),
    ("digest", b""),
]


@pytest.mark.parametrize("kind", ["data", "branch", "index"])
@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_an_edited_key_row_is_refused(keys: Parts, kind: str, column: str, value: Any) -> None:
    """Every column of a row is authenticated: edited by SQL, the key serves nobody."""
    row = keys.row(kind)
    where = "data" if kind == "branch" else kind
    user = keys.row(where)
    if kind == "index" and column == "parent" and value == "local://pii-index":
        value = "local://pii-fields"
    if value == kind:
        value = "data"
    if not keys.edit(row, column, value):
        return  # PostgreSQL refused it already

    for use in (
        lambda: keys.resolver().to_encrypt(handle(where)),
        lambda: keys.resolver().to_decrypt(handle(where), user.key_id),
    ):
        with pytest.raises(LacreError) as caught:
            use()
        assert isinstance(caught.value, Tampered | KeyUnavailable | ConfigurationError)


@pytest.mark.parametrize(("column", "value"), COLUMNS)
def test_no_key_is_in_the_frames_of_a_refusal(keys: Parts, column: str, value: Any) -> None:
    """An error reporter that logs every local of a traceback logs no key."""
    row, branch = keys.row(), keys.row("branch")
    secrets = [keys.material(row).reveal(), keys.material(branch).reveal()]
    if not keys.edit(row, column, value):
        return  # PostgreSQL refused it already

    with pytest.raises(LacreError) as caught:
        keys.resolver().to_encrypt(handle())
    trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [
        shown
        for frame in trace.stack
        for shown in (frame.locals or {}).items()
        if "secrets" not in shown[0]
    ]
    assert frames
    for secret in secrets:
        assert not [shown for shown in frames if repr(secret)[2:-1] in shown[1]]


def test_swapped_rows_are_refused(keys: Parts) -> None:
    """Two rows that exchange their wrapped keys open neither."""
    keys.create(tenant="t2")
    for kind in PROVISIONED:
        one, two = keys.row(str(kind)), keys.row(str(kind), tenant="t2")
        keys.edit(one, "wrapped", two.wrapped)
        keys.edit(two, "wrapped", one.wrapped)

    for tenant in ("default", "t2"):
        for kind in PROVISIONED:
            with pytest.raises(Tampered):
                keys.resolver().to_encrypt(handle(str(kind), tenant=tenant))


def test_a_row_copied_into_another_scope_is_refused(keys: Parts) -> None:
    """A row inserted again under another tenant, class or version does not open there."""
    for kind in PROVISIONED:
        row = keys.row(str(kind))
        for changed in (scope(str(kind), tenant="t2"), scope(str(kind), class_="x")):
            copy = replace(row, key_id=os.urandom(16), scope=changed)
            keys.insert(copy)
            with pytest.raises((Tampered, ConfigurationError)):
                keys.resolver().to_encrypt(
                    handle(str(kind), tenant=changed.tenant, class_=changed.class_)
                )


def test_a_row_of_another_key_store_is_refused(keys: Parts) -> None:
    """Under one KMS key, a row of one key store is nobody's in another."""
    keys.sql("UPDATE lacre_meta SET value = ? WHERE name = 'keystore'", "ab" * 16)
    elsewhere = Parts.at(keys.place)
    elsewhere.service = keys.service

    for kind in PROVISIONED:
        with pytest.raises(Tampered):
            elsewhere.resolver().to_encrypt(handle(str(kind)))
    elsewhere.store.close()


def test_an_index_root_planted_under_a_branch_key_is_refused(keys: Parts) -> None:
    """Whoever holds a branch key and writes the key store cannot choose the key of the index."""
    branch, root = keys.row("branch"), keys.row("index")
    known = KeyMaterial(b"k" * 32)
    forged = replace(
        root,
        key_id=b"p" * 16,
        version=2,
        parent=branch.key_id.hex(),
        state=KeyState.ACTIVE,
        mac=None,
    ).sealed(known)
    forged = replace(forged, wrapped=planted(forged, branch.key_id, known, keys.material(branch)))
    keys.edit(root, "state", "disabled")
    keys.insert(forged)

    with pytest.raises(LacreError):
        keys.resolver().to_encrypt(handle("index"))


def test_a_data_key_planted_under_a_kms_key_is_refused(keys: Parts) -> None:
    """A data key is wrapped by a branch key and by nothing else."""
    row = replace(keys.row(), key_id=b"p" * 16, version=2, parent=kms_key(scope()), wrapped=None)
    row = replace(row, wrapped=keys.service.mint(row.parent, row.wrap_context()))
    row = row.sealed(keys.service.unwrap(row.parent, row.wrapped or b"", row.wrap_context()))
    keys.edit(keys.row(), "state", "decrypt_only")
    keys.insert(row)

    with pytest.raises(Tampered):
        keys.resolver().to_encrypt(handle())


@pytest.mark.parametrize("length", [1, 2])
def test_branch_keys_that_are_their_own_parents_are_refused_at_once(
    keys: Parts, length: int
) -> None:
    """A circle of parents is an error, not a thread that waits for itself."""
    branch = keys.row("branch")
    other = replace(branch, key_id=b"o" * 16, version=0, state=KeyState.DECRYPT_ONLY)
    keys.insert(replace(other, parent=branch.key_id.hex()))
    keys.edit(branch, "parent", (branch if length == 1 else other).key_id.hex())
    outcome: list[BaseException] = []

    def use() -> None:
        try:
            keys.resolver().to_encrypt(handle())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(5)

    assert isinstance(outcome[0], ConfigurationError | Tampered)


@pytest.mark.parametrize("kind", ["data", "branch", "index"])
@pytest.mark.parametrize("to", [KeyState.DISABLED, KeyState.COMPROMISED])
def test_a_state_flipped_back_by_sql_is_not_believed(keys: Parts, kind: str, to: KeyState) -> None:
    """A disabled key that SQL calls active again is still disabled."""
    row = keys.row(kind)
    keys.step(row, to)
    use = "data" if kind == "branch" else kind
    key_id = keys.row(use).key_id
    with pytest.raises(KeyDisabled):
        keys.resolver().to_decrypt(handle(use), key_id)
    for state in ("active", "decrypt_only"):
        keys.edit(row, "state", state)

        with pytest.raises(KeyDisabled):
            keys.resolver().to_decrypt(handle(use), key_id)


def test_an_old_version_made_active_by_sql_does_not_encrypt(keys: Parts) -> None:
    """Decrypt-only to active takes the key itself."""
    old = keys.row()
    new = keys.rotate("data")
    keys.sql("DELETE FROM lacre_key WHERE key_id = ?", new.key_id)
    with pytest.raises(KeyDisabled):
        keys.resolver().to_encrypt(handle())
    keys.edit(old, "state", "active")

    with pytest.raises(KeyDisabled):
        keys.resolver().to_encrypt(handle())


def test_a_replayed_active_row_does_not_encrypt_while_a_higher_version_stands(
    keys: Parts, dump: KeyStoreContents
) -> None:
    """An authentic older row put back loses to the version above it."""
    old = keys.row()
    new = keys.rotate("data")
    keys.edit(new, "state", "disabled")
    _put_back(keys, dump, old.key_id)

    with pytest.raises(KeyDisabled):
        keys.resolver().to_encrypt(handle())


def test_a_process_never_accepts_an_older_revision_than_it_saw(
    keys: Parts, dump: KeyStoreContents
) -> None:
    """A row rolled back to an authentic older state is refused by whoever saw the newer one."""
    old = keys.row()
    new = keys.rotate("data")
    resolver = keys.resolver()
    resolver.to_decrypt(handle(), old.key_id)
    keys.sql("DELETE FROM lacre_key WHERE key_id = ?", new.key_id)
    _put_back(keys, dump, old.key_id)
    resolver.forget()

    with pytest.raises(KeyDisabled, match="back in time"):
        resolver.to_encrypt(handle())


@pytest.mark.parametrize("kind", ["data", "branch", "index"])
def test_a_process_that_saw_a_key_disabled_refuses_its_replayed_active_row(
    keys: Parts, dump: KeyStoreContents, kind: str
) -> None:
    """Disabling counts as a revision seen, although it carries no MAC."""
    row = keys.row(kind)
    use = "data" if kind == "branch" else kind
    keys.step(row, KeyState.DISABLED)
    resolver = keys.resolver()
    with pytest.raises(KeyDisabled):
        resolver.to_encrypt(handle(use))
    _put_back(keys, dump, row.key_id)

    with pytest.raises(KeyDisabled, match="back in time"):
        resolver.to_encrypt(handle(use))


def test_a_destroyed_key_is_named_so_and_its_replaced_tombstone_refused(
    keys: Parts, dump: KeyStoreContents
) -> None:
    """Destroyed says destroyed; a process that saw it does not take the row out of a dump."""
    row = keys.row()
    keys.step(row, KeyState.DESTROYED)
    resolver = keys.resolver()
    with pytest.raises(KeyDestroyed):
        resolver.to_decrypt(handle(), row.key_id)
    _put_back(keys, dump, row.key_id)

    with pytest.raises(KeyDisabled, match="back in time"):
        resolver.to_decrypt(handle(), row.key_id)


def _put_back(keys: Parts, dump: KeyStoreContents, key_id: bytes) -> None:
    old = next(row for row in dump.keys if row.key_id == key_id)
    keys.sql("DELETE FROM lacre_key WHERE key_id = ?", key_id)
    keys.insert(old)


def test_a_pending_row_of_a_higher_version_changes_nothing(keys: Parts) -> None:
    """Anyone who may insert can add a pending row; encryption goes on under the active one."""
    row = keys.row()
    keys.insert(replace(row, key_id=b"p" * 16, version=9, state=KeyState.PENDING, mac=None))

    assert keys.resolver().to_encrypt(handle()).key_id == row.key_id
    with pytest.raises(KeyDisabled):
        keys.resolver().to_decrypt(handle(), b"p" * 16)


def test_the_policy_and_not_the_row_names_the_kms_key(keys: Parts) -> None:
    """A row that names another KMS key is never unwrapped there."""
    keys.edit(keys.row("index"), "parent", "local://stranger")

    with pytest.raises(ConfigurationError, match="another KMS key"):
        keys.resolver().to_encrypt(handle("index"))
    assert keys.service.unwrapped == []


def test_a_search_asks_under_every_root_in_use(keys: Parts) -> None:
    """After a rotation both roots answer, the new one first; a destroyed one no longer."""
    old = keys.row("index")
    new = keys.rotate("index")

    assert [key.key_id for key in keys.resolver().searchable(handle("index"))] == [
        new.key_id,
        old.key_id,
    ]
    keys.step(old, KeyState.DESTROYED)
    assert [key.key_id for key in keys.resolver().searchable(handle("index"))] == [new.key_id]


def test_a_search_includes_a_root_that_became_active_since(keys: Parts) -> None:
    """A process whose active root is cached from before a rotation still asks under the new one."""
    resolver = keys.resolver(age=300)
    old = resolver.to_encrypt(handle("index"))
    new = keys.rotate("index")

    assert {key.key_id for key in resolver.searchable(handle("index"))} == {old.key_id, new.key_id}


@pytest.mark.parametrize("number", [1, 6])
def test_planted_roots_are_tried_once_and_not_at_every_search(keys: Parts, number: int) -> None:
    """Pending rows that open for nobody cost calls when versions are listed, and nothing while all is held."""
    root = keys.row("index")
    for version in range(2, 2 + number):
        forged = replace(root, key_id=os.urandom(16), version=version, state=KeyState.PENDING, revision=1, mac=None)  # fmt: skip
        keys.insert(forged)
    resolver = keys.resolver(age=300)
    resolver.searchable(handle("index"))
    asked = keys.service.calls
    keys.service.unreachable.add(root.parent)

    assert [key.key_id for key in resolver.searchable(handle("index"))] == [root.key_id]
    held = resolver.cached_searchable(handle("index"))
    assert held is not None
    assert [key.key_id for key in held] == [root.key_id]
    assert keys.service.calls == asked


def test_a_planted_root_without_a_key_stops_no_search(keys: Parts) -> None:
    """A pending row that holds nothing looks destroyed; searches go on under the roots there are."""
    root = keys.row("index")
    keys.insert(
        replace(root, key_id=os.urandom(16), version=2, state=KeyState.PENDING, revision=1, wrapped=None, mac=None)
    )  # fmt: skip

    assert [key.key_id for key in keys.resolver().searchable(handle("index"))] == [root.key_id]


def test_a_search_is_refused_rather_than_answered_in_part(keys: Parts) -> None:
    """A disabled older root would silently leave out rows, so nothing is answered."""
    old = keys.row("index")
    keys.rotate("index")
    keys.step(old, KeyState.DISABLED)

    with pytest.raises(KeyDisabled):
        keys.resolver().searchable(handle("index"))


def test_neither_cache_nor_keys_print_or_pickle(keys: Parts) -> None:
    """No repr on the way to a key shows it."""
    resolver = keys.resolver()
    key = resolver.to_encrypt(handle())
    secret = repr(key.material.reveal())[2:-1]

    for shown in (repr(key), repr(key.material), repr(resolver), repr(vars(resolver))):
        assert secret not in shown
        assert key.material.reveal().hex() not in shown


def test_the_age_of_a_key_counts_while_the_machine_is_suspended() -> None:
    """CLOCK_MONOTONIC would stand still, and a revoked process read on by as long as it slept."""
    assert since_boot.func is time.clock_gettime
    assert since_boot.args == (time.CLOCK_BOOTTIME,)
