# SPDX-License-Identifier: Apache-2.0
"""
Joins of mapped models as plain data: which model is joined to which, how, and on what.

SQLAlchemy's own comparison of statements finds no two joins equal, so each part of one is read
here, and what is none of these parts is refused: a model and what it is joined on (a
relationship, a condition of plain attributes, or the foreign key between the two), inner or left
outer. Runs nothing.

Leans on private names of SQLAlchemy, each pinned by a test: `Select._setup_joins`, `_from_obj`,
the annotation ``parententity``.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import InstrumentedAttribute

from lacre.bulk.conditions import condition_of, described_condition
from lacre.bulk.models import Models, name_of, unsupported
from lacre.errors import MisuseError

__all__ = ["Join", "described_joins", "joined", "models_of", "without_joins"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """
    One join. *by* names a relationship, *on* is a condition; with neither the foreign key says it.

    *left* is the place of the model that is joined to, where the statement says it; *target* whether
    a relationship was given beside the model it leads to.
    """

    model: str
    outer: bool
    left: int | None = None
    target: bool = True
    by: str | None = None
    on: Any = None

    @classmethod
    def from_json(cls, given: Any) -> "Join":
        """
        Return what `asdict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no description of this release.
        """
        left, by = given["left"], given["by"]
        if not (left is None or type(left) is int) or not (by is None or isinstance(by, str)):
            raise ValueError
        return cls(
            model=str(given["model"]),
            outer=bool(given["outer"]),
            left=left,
            target=bool(given["target"]),
            by=by,
            on=given["on"],
        )


def _mapper(entity: Any) -> Mapper[Any]:
    found = getattr(entity, "_annotations", {}).get("parententity")
    if not isinstance(found, Mapper):
        raise unsupported("a join of anything but models")
    return found


def _relationship(given: Any) -> Any:
    # Its exact type: `and_()` and `of_type()` make another of it, which says more.
    prop = getattr(given, "property", None)
    return prop if type(given) is InstrumentedAttribute and isinstance(prop, RelationshipProperty) else None  # fmt: skip


def _target(join: Any) -> Mapper[Any]:
    prop = _relationship(join[0])
    return _mapper(join[0]) if prop is None else prop.mapper


def models_of(statement: Any, selected: list[Mapper[Any]]) -> Models:
    """
    Return the models of *statement*, which selects from *selected*; the first is the one that others are joined to.

    Raises:
        UnsupportedQuery: one is not joined, or twice.
    """
    targets = [_target(join) for join in statement._setup_joins]  # noqa: SLF001
    sources = [_mapper(each) for each in statement._from_obj]  # noqa: SLF001
    sources += [_mapper(join[2]) for join in statement._setup_joins if join[2] is not None]  # noqa: SLF001
    # Of `C.orders` the model that it is an attribute of, which need not be selected from.
    for join in statement._setup_joins:  # noqa: SLF001
        sources += [prop.parent for prop in map(_relationship, join[:2]) if prop is not None]
    found = dict.fromkeys([*sources, *selected, *targets])
    roots = [mapper for mapper in found if mapper not in targets]
    if len(roots) != 1 or len(set(targets)) != len(targets):
        raise unsupported("columns of two models that are not joined, or of one that is joined twice")  # fmt: skip
    return Models([*roots, *targets])


def described_joins(statement: Any, models: Models) -> tuple[Join, ...]:
    """
    Return the joins of *statement*.

    Raises:
        UnsupportedQuery: there is more to one than a description says.
    """
    return tuple(_described(join, models) for join in statement._setup_joins)  # noqa: SLF001


def _described(join: tuple[Any, Any, Any, Any], models: Models) -> Join:
    target, given, left, how = join
    if set(how) != {"isouter", "full"} or how["full"]:
        raise unsupported("a join of this kind")
    mapper = _target(join)
    relationship = _relationship(target)
    if relationship is not None and given is not None:
        raise unsupported("a join of a relationship on anything else")
    named = relationship or _relationship(given)
    by = on = None
    if named is not None:
        by = models.named(models.place(named.parent), named.key)
    elif given is not None:
        on = described_condition(given, models)
        if not condition_of(on, models).compare(given, compare_values=False, compare_keys=False):
            raise unsupported("all that it is joined on")
    return Join(
        model=name_of(mapper.class_),
        outer=how["isouter"],
        left=None if left is None else models.place(_mapper(left)),
        target=relationship is None,
        by=by,
        on=on,
    )


def joined(statement: Any, joins: tuple[Join, ...], models: Models) -> Any:
    """
    Return *statement* with *joins*.

    Raises:
        MisuseError: a request describes one that there is not.
    """
    for place, join in enumerate(joins, 1):
        target = models.mappers[place].class_
        on: Any = None if join.on is None else condition_of(join.on, models)
        if join.by is not None:
            of, key = models.placed(join.by)
            mapper = models.mappers[of]
            if key not in mapper.relationships or mapper.relationships[key].mapper is not models.mappers[place]:  # fmt: skip
                raise MisuseError(f"{mapper.class_.__name__}.{key} leads to no {target.__name__}")
            on = getattr(mapper.class_, key)
        arguments = (target, on) if join.target else (on,)
        if join.left is None:
            statement = statement.join(*arguments, isouter=join.outer)
        elif 0 <= join.left < place:
            left = models.mappers[join.left].class_
            statement = statement.join_from(left, *arguments, isouter=join.outer)
        else:
            raise MisuseError("the request joins to a model that is not there")
    return statement


def without_joins(statement: Any) -> Any:
    """Return a copy of *statement* with everything but its joins."""
    copy = statement._generate()  # noqa: SLF001
    copy._setup_joins = ()  # noqa: SLF001
    return copy
