# SPDX-License-Identifier: Apache-2.0
"""
Columns that `lacre.toml` puts into a class, and that models do not encrypt.

Compares declarations alone: reads no row. What a table still holds is `lacre columns list`.
"""

from collections.abc import Iterator
from typing import Any

from lacre.policy.lints.finding import Finding, Level
from lacre.policy.model import PolicyFile
from lacre.sqlalchemy.mapped import mappers_of, schemes_of

__all__ = ["unencrypted"]


def unencrypted(file: PolicyFile, models: Any, *, store: str = "main") -> list[Finding]:
    """Return the columns of classes that *models*, of the logical database *store*, hold otherwise."""
    encrypted = {
        f"{scheme.table}.{scheme.column}": scheme.class_
        for scheme in schemes_of(models)
        if scheme.store == store
    }
    plain: dict[str, set[str]] = {}
    for mapper in mappers_of(models):
        for table in mapper.tables:
            plain.setdefault(getattr(table, "name", ""), set()).update(
                c.name for c in table.columns
            )
    return list(_compared(dict(_classified(file, store)), encrypted, plain))


def _classified(file: PolicyFile, store: str) -> Iterator[tuple[str, str]]:
    for name, declared in file.classes.items():
        for column in declared.columns or ():
            target = file.columns.get(column)
            if target is None or target.store == store:
                yield column, name
    for column, target in file.columns.items():
        if target.store == store:
            yield column, target.class_


def _compared(
    classified: dict[str, str], encrypted: dict[str, str], plain: dict[str, set[str]]
) -> Iterator[Finding]:
    for place, class_ in sorted(classified.items()):
        table, _, column = place.rpartition(".")
        if place in encrypted:
            if encrypted[place] != class_:
                yield Finding(
                    rule="another-class",
                    level=Level.ERROR,
                    path=("classes", class_, "columns"),
                    sentence=f"{place} is of class {class_} here, and of {encrypted[place]} in the model",
                    hint="one of the two is wrong: who may read it depends on which",
                )
        elif column in plain.get(table, ()):
            yield Finding(
                rule="unencrypted-column",
                level=Level.ERROR,
                path=(*place.split("."),),
                sentence=f"it is of class {class_}, and the model does not encrypt it",
                hint=f'encrypted("{class_}") in the model and `lacre protect`; or [[waivers]] with the reason',
            )
        elif table in plain:
            yield Finding(
                rule="unknown-column",
                level=Level.WARNING,
                path=("classes", class_, "columns"),
                sentence=f"no model has {place}",
                hint="a column that was renamed, or a typing error",
            )
