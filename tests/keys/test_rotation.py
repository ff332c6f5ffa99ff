"""What is due is named, the most urgent first, and nothing else is."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from lacre.keys.hierarchy import KeyRow, KeyState
from lacre.keys.rotation import Due, Urgency, due
from tests.keys.parts import scope
from tests.stores.rows import ROW

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
YEAR = dt.timedelta(days=365)


def row(version: int = 1, *, kind: str = "branch", age: int = 0, **more: Any) -> KeyRow:
    """A row created *age* days ago."""
    created = (NOW - dt.timedelta(days=age)).isoformat(timespec="seconds").replace("+00:00", "Z")
    key_id = f"{kind}-{version}".ljust(16).encode()
    return replace(ROW, key_id=key_id, version=version, scope=scope(kind), created=created, **more)


def found(*rows: KeyRow, within: int = 0, period: dt.timedelta | None = YEAR) -> list[Due]:
    return list(due(rows, period=lambda _: period, now=NOW, within=dt.timedelta(days=within)))


@pytest.mark.parametrize(
    ("age", "within", "urgency"),
    [
        (364, 0, None),
        (365, 0, "overdue"),
        (364, 1, "soon"),
        (300, 30, None),
        (336, 30, "soon"),
        (4000, 0, "overdue"),
    ],
)
def test_an_active_key_is_due_on_its_day(age: int, within: int, urgency: str | None) -> None:
    """Its creation and its class's period give the day; *within* says how long before it is told."""
    items = found(row(age=age), within=within)

    assert [str(item.urgency) for item in items] == ([urgency] if urgency else [])
    for item in items:
        assert item.by == NOW - dt.timedelta(days=age) + YEAR
        assert item.do == "lacre keys rotate --tenant default --class pii --kind branch"


def test_a_key_without_a_period_is_never_due() -> None:
    """`never` is never."""
    assert found(row(age=40_000), period=None) == []


def test_older_versions_are_not_due() -> None:
    """What only decrypts, and what is destroyed, needs no rotation."""
    old = row(age=900, state=KeyState.DECRYPT_ONLY)
    gone = row(2, age=800, state=KeyState.DESTROYED, wrapped=None)

    assert found(old, gone, row(3, age=3)) == []


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (KeyState.DISABLED, "disabled"),
        (KeyState.COMPROMISED, "compromised"),
        (KeyState.DECRYPT_ONLY, "nothing can be encrypted"),
        (KeyState.DESTROYED, "nothing can be encrypted"),
    ],
)
def test_a_scope_that_cannot_encrypt_is_overdue(state: KeyState, why: str) -> None:
    """Whatever its age."""
    (item,) = found(row(state=state))

    assert item.urgency is Urgency.OVERDUE
    assert why in item.why
    assert item.by is None


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.COMPROMISED])
def test_an_older_version_that_is_out_of_use_is_named(state: KeyState) -> None:
    """Values under it cannot be read until somebody decides."""
    (item,) = found(row(state=state), row(2))

    assert (item.row.version, item.urgency) == (1, Urgency.OVERDUE)
    assert item.row.key_id.hex()[:8] in item.do


def test_a_step_that_waits_is_named() -> None:
    """An announced index root, and a first key that was never activated; not what is below the active one."""
    announced = row(3, kind="index", state=KeyState.PENDING)
    unfinished = row(kind="data", state=KeyState.PENDING)
    stale = row(1, kind="index", state=KeyState.PENDING)

    items = found(stale, row(2, kind="index"), announced, unfinished)

    assert [(item.row, item.urgency) for item in items] == [
        (unfinished, Urgency.WAITING),
        (announced, Urgency.WAITING),
    ]
    assert items[0].do == "lacre keys create --tenant default --class pii"
    assert items[1].do == "lacre keys rotate --tenant default --class pii --kind index"


def test_a_data_key_left_under_an_old_branch_key_is_named() -> None:
    """Another rotation of the branch key wraps it anew."""
    old, new = row(age=9, state=KeyState.DECRYPT_ONLY), row(2)
    left = row(kind="data", parent=old.key_id.hex())

    (item,) = found(
        old, new, left, replace(left, key_id=b"x" * 16, version=2, parent=new.key_id.hex())
    )

    assert item.row == left
    assert item.do.endswith("--kind branch")


def test_the_most_urgent_comes_first() -> None:
    """Overdue, oldest day first, then what waits, then what is near; an unreadable date is overdue."""
    late = row(age=500)
    waiting = row(2, age=1, state=KeyState.PENDING)
    near = replace(row(age=360, kind="data"), parent="local://x")
    broken = replace(row(kind="index"), created="yesterday")

    assert [item.row for item in found(near, waiting, late, broken, within=30)] == [
        broken,
        late,
        waiting,
        near,
    ]
