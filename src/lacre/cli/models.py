# SPDX-License-Identifier: Apache-2.0
"""
`--models MODULE:NAME`: the declarative bases and mapped classes that a command works on.

Imports the module, as Celery, uvicorn and Alembic do, with the current directory on the path; this
runs the module's own code and nothing else: what NAME stands for is never called. Does not read
columns (`lacre.sqlalchemy.mapped`) and opens no database.

What an exception of the module says is not repeated: it may quote an address with a password.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any

import typer

from lacre.errors import ConfigurationError, LacreError

__all__ = ["Models", "load_models"]

Models = typer.Option(
    ...,
    "--models",
    help="MODULE:NAME of your declarative base, as in shop.models:Base, or of a mapped class; once for each",
)

_HINT = "the module's name as Python imports it from here, a colon, the base's name: --models shop.models:Base"


def load_models(names: Sequence[str]) -> list[Any]:
    """
    Return what each MODULE:NAME stands for: a declarative base, a mapped class, or several of them.

    The list is what `lacre.sqlalchemy.mapped.schemes_of` and `mappers_of` take.

    Raises:
        ConfigurationError: there is no such module or name, the module cannot be imported, its
            models do not fit together, or it is something else.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does
    found: list[Any] = []
    for name in names:
        for model in _several(_named(name)):
            _check(name, model)
            if not any(model is other for other in found):
                found.append(model)
    _configure(found)
    return found


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _named(name: str) -> Any:
    module, colon, path = name.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *(path.split(".") if colon else ())]):  # fmt: skip
        raise ConfigurationError(f"--models {name!r} is not MODULE:NAME", hint=_HINT)
    value = _imported(module)
    if not colon:
        raise ConfigurationError(
            f"--models {name} does not say which base of the module", hint=_offer(module, value)
        )
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise ConfigurationError(
                f"the module {module} has no {path}", hint=_offer(module, sys.modules[module])
            ) from None
    return value


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except LacreError:
        raise  # a declaration of its own that lacre refuses: this says what to do
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(missing + "."):
            raise ConfigurationError(
                f"there is no module {missing} here", hint=f"{_HINT}; run this where it can be imported"
            ) from None  # fmt: skip
        raise _cannot(module, f"it needs the module {missing}, which is not installed") from None
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise _cannot(module, f"{type(error).__name__} in {where}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001  a module may raise anything
        frames = extract_tb(error.__traceback__)
        where = f" in {frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
        raise _cannot(module, f"{type(error).__name__}{where}") from None


def _cannot(module: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the module {module} cannot be imported: {why}",
        hint=f'python -c "import {module}" shows all of it',
    )


def _check(name: str, model: Any) -> None:
    from lacre.sqlalchemy.mapped import mappers_of

    try:
        mappers_of(model)
    except ConfigurationError:
        raise ConfigurationError(
            f"{name} is neither a declarative base nor a mapped class, but a {type(model).__name__}",
            hint=_HINT,
        ) from None


def _offer(module: str, value: Any) -> str:
    from sqlalchemy.orm import DeclarativeBase

    bases = [
        f"--models {module}:{name}"
        for name, found in vars(value).items()
        if isinstance(found, type)
        and found is not DeclarativeBase
        and "registry" in vars(found)
        and "metadata" in vars(found)
    ]
    return " or ".join(bases) or _HINT


def _configure(models: Sequence[Any]) -> None:
    # Now and not at the first statement, so that a relationship to a class that was not imported
    # is told here.
    from sqlalchemy.exc import SQLAlchemyError

    from lacre.sqlalchemy.mapped import mappers_of

    try:
        for registry in dict.fromkeys(mapper.registry for mapper in mappers_of(models)):
            registry.configure(cascade=True)
    except LacreError:
        raise
    except SQLAlchemyError as error:
        # Quotes names of classes and columns, never values: no statement was made.
        raise ConfigurationError(
            f"the models do not fit together: {str(error).splitlines()[0]}",
            hint="name a module that imports every module with models",
        ) from None
