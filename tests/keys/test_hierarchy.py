"""A key row's columns are bound, and its state moves along the allowed steps only."""

from dataclasses import fields, replace
from itertools import product
from typing import Any

import pytest

from lacre.errors import MisuseError
from lacre.keys.hierarchy import USABLE, KeyKind, KeyRow, KeyState, state_mac
from lacre.sensitive import KeyMaterial
from tests.keys.parts import scope

KEY = KeyMaterial(b"k" * 32)
ROW = KeyRow(
    key_id=bytes(16),
    scope=scope(),
    version=1,
    parent="local://pii-fields",
    suite=1,
    created="2026-11-22T10:00:00Z",
    keystore="00" * 16,
    wrapped=bytes(123),
    state=KeyState.PENDING,
    revision=1,
    changed="2026-11-22T10:00:00Z",
    mac=None,
)
MUTABLE = {"wrapped", "state", "revision", "changed", "mac"}
LEGAL = {
    ("pending", "active"),
    ("pending", "destroyed"),
    ("active", "decrypt_only"),
    ("active", "disabled"),
    ("active", "compromised"),
    ("active", "destroyed"),
    ("decrypt_only", "disabled"),
    ("decrypt_only", "compromised"),
    ("decrypt_only", "destroyed"),
    ("disabled", "active"),
    ("disabled", "decrypt_only"),
    ("disabled", "compromised"),
    ("disabled", "destroyed"),
    ("compromised", "destroyed"),
}


@pytest.mark.parametrize(("old", "new"), list(product(KeyState, KeyState)))
def test_every_step_is_legal_or_raises(old: KeyState, new: KeyState) -> None:
    """All 36: fourteen move the row one revision on, the rest raise and name what is allowed."""
    row = replace(ROW, state=old)
    if (old, new) not in LEGAL:
        with pytest.raises(MisuseError, match=f"{old} does not become {new}"):
            row.stepped(new, changed="later", material=KEY)
        return
    moved = row.stepped(new, changed="later", material=KEY)

    assert (moved.state, moved.revision, moved.changed) == (new, 2, "later")
    assert (moved.mac is not None) == (new in USABLE)
    assert (moved.wrapped is None) == (new is KeyState.DESTROYED)
    assert moved.trusted_state(KEY) is new
    assert moved.immutable() == row.immutable()


@pytest.mark.parametrize("state", [KeyState.ACTIVE, KeyState.DECRYPT_ONLY])
def test_a_usable_state_takes_the_key_itself(state: KeyState) -> None:
    """Nobody without the key makes it more usable."""
    with pytest.raises(MisuseError, match="can unwrap"):
        replace(ROW, state=KeyState.DISABLED).stepped(state, changed="later")


@pytest.mark.parametrize(
    "change",
    [
        {"state": KeyState.DECRYPT_ONLY},
        {"revision": 3},
        {"changed": "later"},
        {"key_id": b"o" * 16},
        {"mac": None},
        {"mac": b""},
        {"mac": bytes(32)},
    ],
)
def test_a_state_without_its_right_mac_counts_as_disabled(change: dict[str, Any]) -> None:
    """Every mutable column and the key's id are under the MAC."""
    row = replace(ROW, state=KeyState.DISABLED).stepped(
        KeyState.ACTIVE, changed="now", material=KEY
    )

    assert row.trusted_state(KEY) is KeyState.ACTIVE
    assert replace(row, **change).trusted_state(KEY) is KeyState.DISABLED
    assert row.trusted_state(KeyMaterial(b"o" * 32)) is KeyState.DISABLED


def test_every_immutable_column_is_in_the_binding() -> None:
    """One column different, another binding; a mutable one changes nothing."""
    other: dict[str, Any] = {
        "key_id": b"o" * 16,
        "version": 2,
        "parent": "local://other",
        "suite": 2,
        "created": "later",
        "keystore": "11" * 16,
        "wrapped": b"",
        "state": KeyState.ACTIVE,
        "revision": 9,
        "changed": "later",
        "mac": b"m" * 32,
        "digest": b"d" * 32,
    }
    assert set(other) | {"scope"} == {column.name for column in fields(KeyRow)}
    for column, value in other.items():
        changed = replace(ROW, **{column: value})
        assert (changed.immutable() == ROW.immutable()) == (column in MUTABLE)
        assert (changed.wrap_context() == ROW.wrap_context()) == (column in MUTABLE)


def test_every_part_of_the_scope_is_in_the_binding() -> None:
    """Kind, app, environment, service, tenant, class and subject."""
    others = [
        scope("index"),
        scope(app="o"),
        scope(env="o"),
        scope(service="o"),
        scope(tenant="o"),
        scope(class_="o"),
        scope(subject="o"),
    ]
    bound = {replace(ROW, scope=other).immutable() for other in [*others, ROW.scope]}

    assert len(bound) == 8


def test_a_key_service_sees_eight_pairs_and_nothing_personal() -> None:
    """The policy pairs, the key's id and a digest; a subject's pseudonym is not among them."""
    row = replace(ROW, scope=scope(subject="s1"))

    assert set(row.wrap_context()) == {
        "app", "class", "env", "kind", "service", "tenant", "lacre-key", "lacre-row"
    }  # fmt: skip
    assert "s1" not in row.wrap_context().values()


def test_the_kind_says_what_wraps_a_key() -> None:
    """Branch keys, index roots and seal keys are under a KMS key, all others under a key."""
    under = {kind for kind in KeyKind if kind.under_kms}

    assert under == {KeyKind.BRANCH, KeyKind.INDEX, KeyKind.SEAL}


def test_two_states_never_share_a_mac() -> None:
    """A MAC of one state is not another's."""
    macs = {
        state_mac(KEY, replace(ROW, state=state, revision=n)) for state in KeyState for n in (1, 2)
    }

    assert len(macs) == 12
