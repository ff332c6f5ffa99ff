# SPDX-License-Identifier: Apache-2.0
"""
The encrypted columns of mapped classes, found in the mappers.

Does no SQL and does not ask for their present states.
"""

from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper

from lacre.errors import ConfigurationError
from lacre.fields.scheme import Scheme
from lacre.sqlalchemy.declared import sealed_properties

__all__ = ["mappers_of", "schemes_of"]


def schemes_of(models: Any) -> list[Scheme]:
    """
    Return the scheme of every encrypted column of *models*, each once.

    Args:
        models: a declarative base, a mapped class, or several of either.

    Raises:
        ConfigurationError: one of them is neither.
    """
    return list(
        dict.fromkeys(
            prop.scheme for mapper in mappers_of(models) for prop in sealed_properties(mapper)
        )
    )


def mappers_of(models: Any) -> list[Mapper[Any]]:
    """
    Return the mappers of *models*, each once, in the order of the models and then of class names.

    Args:
        models: a declarative base, a mapped class, or several of either.

    Raises:
        ConfigurationError: one of them is neither.
    """
    several = models if isinstance(models, list | tuple | set | frozenset) else [models]
    return list(dict.fromkeys(mapper for model in several for mapper in _mappers(model)))


def _mappers(model: Any) -> list[Mapper[Any]]:
    registry = getattr(model, "registry", None)
    if registry is not None and "registry" in vars(model):
        return sorted(registry.mappers, key=lambda mapper: mapper.class_.__name__)
    try:
        return [inspect(model)]
    except NoInspectionAvailable:
        raise ConfigurationError(
            f"{model!r} is neither a declarative base nor a mapped class",
            hint="models=Base, or models=[Customer, Order]",
        ) from None
