# SPDX-License-Identifier: Apache-2.0
"""Rows of many scopes come in few queries, and are those that each scope's own query gives."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from lacre.keys.hierarchy import KeyKind, Scope
from tests.components.key_stores import KeyStorePlace
from tests.keys.parts import Parts, scope


@pytest.fixture
def parts(place: KeyStorePlace) -> Iterator[Parts]:
    """Keys of three tenants in two classes, one of them rotated."""
    made = Parts.at(place)
    for tenant in ("a", "b", "c"):
        made.create(tenant=tenant)
        made.create(tenant=tenant, class_="banking")
    made.rotate("data", tenant="b")
    yield made
    made.close()


def queries(parts: Parts) -> Any:
    counted: list[str] = []
    sa.event.listen(
        parts.store._database.engine,
        "before_cursor_execute",
        lambda *given: counted.append(given[2]),
    )
    return counted


def test_many_scopes_are_read_at_once(parts: Parts) -> None:
    """Every version of each, highest first, for 700 tenants in two queries; nothing of a scope that was not asked."""
    wanted: list[Scope] = [
        scope(str(kind), tenant=tenant)
        for tenant in ("a", "b", "nobody", *(f"t{number}" for number in range(700)))
        for kind in KeyKind
    ]
    wanted += [scope(tenant="c", class_="banking"), scope(tenant="c", app="other")]
    expected = {each: list(parts.store.versions(each)) for each in wanted[:9] + wanted[-2:]}
    counted = queries(parts)
    found = parts.store.versions_of(wanted)

    assert len([text for text in counted if "lacre_key" in text]) == 3
    assert found.keys() == set(wanted)
    for each, rows in expected.items():
        assert list(found[each]) == rows
    assert [row.version for row in found[scope(tenant="b")]] == [2, 1]
    assert scope(tenant="c") not in found
    assert sum(map(len, found.values())) == 3 + 4 + 1
    assert parts.store.versions_of([]) == {}
