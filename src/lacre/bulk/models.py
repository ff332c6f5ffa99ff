# SPDX-License-Identifier: Apache-2.0
"""
The models of one reading, and how a description names their attributes.

An attribute of the first model is its key (``city``), one of a joined model has the model's place
in front of it (``1.total``). Tokens of blind indexes are nobody's to name: whoever compares them,
or orders by them, learns which values are equal without a right to search. Reads nothing.
"""

import importlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper

from lacre.errors import ConfigurationError, MisuseError, UnsupportedQuery
from lacre.sqlalchemy.compounds import CompoundProperty
from lacre.sqlalchemy.declared import sealed_properties
from lacre.sqlalchemy.types import IndexType

__all__ = ["Models", "is_of_index", "mapper_named", "name_of", "unsupported"]


def unsupported(what: str) -> UnsupportedQuery:
    """Return the error for a statement that has no description."""
    return UnsupportedQuery(
        f"a bulk reading cannot describe {what}",
        hint="select attributes of one model, or of several that join() joins, each once, with where() comparing attributes with values, order_by() plain attributes, limit() and offset(); compute on what was read",
    )


class Models:
    """Mapped classes, the first of them the one that the others are joined to."""

    def __init__(self, mappers: Sequence[Mapper[Any]]) -> None:
        self.mappers = tuple(mappers)

    def place(self, entity: Any) -> int:
        """
        Return which one *entity*, a mapper, is.

        Raises:
            UnsupportedQuery: none of them.
        """
        for place, mapper in enumerate(self.mappers):
            if mapper is entity:
                return place
        raise unsupported("anything but the models that it joins")

    def named(self, place: int, key: str) -> str:
        """Return how the attribute *key* of the model at *place* is named."""
        return f"{place}.{key}" if place else key

    def name_of_column(self, column: Any) -> str:
        """
        Return the name of the attribute that *column* is.

        Raises:
            UnsupportedQuery: it is none, of two models at once, or of a blind index.
        """
        found: list[tuple[int, Any]] = []
        for place, mapper in enumerate(self.mappers):
            # Whatever else it is, it is no attribute of this model.
            with suppress(Exception):
                found.append((place, mapper.get_property_by_column(column)))
        if len(found) != 1:
            raise unsupported("anything but an attribute of one of its models")
        ((place, prop),) = found
        if is_of_index(self.mappers[place], prop):
            raise unsupported("the tokens of a blind index")
        return self.named(place, prop.key)

    def name_of_plain(self, column: Any) -> str:
        """
        Return the name of the attribute that *column* is, and that is not encrypted.

        Raises:
            UnsupportedQuery: it is encrypted, or none.
        """
        name = self.name_of_column(column)
        mapper, prop = self.found(name)
        if prop in sealed_properties(mapper):
            raise unsupported("ciphertexts")
        return name

    def placed(self, name: str) -> tuple[int, str]:
        """
        Return the place of the model that *name* names an attribute of, and the attribute's key.

        Raises:
            MisuseError: there is no such model.
        """
        place, dot, key = name.rpartition(".")
        number = int(place) if place.isascii() and place.isdigit() else 0
        if bool(dot) != (number > 0) or number >= len(self.mappers):
            raise MisuseError(f"the request names {name!r}, which is of none of its models")
        return number, key

    def found(self, name: str) -> tuple[Mapper[Any], Any]:
        """
        Return the mapper and the property that *name* names.

        Raises:
            MisuseError: there is none.
        """
        place, key = self.placed(name)
        mapper = self.mappers[place]
        if key not in mapper.column_attrs:
            raise MisuseError(f"{mapper.class_.__name__} has no attribute {key!r}")
        return mapper, mapper.column_attrs[key]

    def attribute(self, name: str) -> Any:
        """
        Return the attribute that *name* names; a compound index too, which is asked like one.

        Raises:
            MisuseError: there is none, or it holds tokens.
        """
        mapper, prop = self.found(name)
        if is_of_index(mapper, prop) and not isinstance(prop, CompoundProperty):
            raise MisuseError(f"{prop.key} is a blind index, which is neither read nor compared")
        return getattr(mapper.class_, prop.key)

    def plain(self, name: str) -> Any:
        """
        Return the attribute that *name* names and that is neither encrypted nor of an index.

        Raises:
            MisuseError: there is none.
        """
        mapper, prop = self.found(name)
        if is_of_index(mapper, prop) or prop in sealed_properties(mapper):
            raise MisuseError(f"{prop.key} is encrypted, and is not compared in the database")
        return getattr(mapper.class_, prop.key)


def is_of_index(mapper: Mapper[Any], prop: Any) -> bool:
    """Whether *prop* holds tokens of a blind index."""
    column = prop.columns[0]
    return isinstance(column.type, IndexType) or any(
        column is each for sealed in sealed_properties(mapper) for each in sealed.token_columns
    )


def name_of(model: type) -> str:
    """
    Return MODULE:NAME of *model*.

    Raises:
        ConfigurationError: it cannot be imported by its name.
    """
    module, name = model.__module__, model.__qualname__
    if module == "__main__" or "<locals>" in name:
        raise ConfigurationError(
            f"the model {name} has no module that another process could import",
            hint="define the models in a module of their own, and import them from there",
        )
    return f"{module}:{name}"


def mapper_named(model: str) -> Mapper[Any]:
    """
    Return the mapper of MODULE:NAME. Imports the module, which runs its code.

    Raises:
        ConfigurationError: there is no such module or mapped class.
    """
    module, _, name = model.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return sa.inspect(found)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, NoInspectionAvailable):
        raise ConfigurationError(
            f"the reading process finds no mapped class {model}",
            hint="its module is imported by name, from the directory and the path of whoever asks",
        ) from None
