# SPDX-License-Identifier: Apache-2.0
"""`--models MODULE:NAME`: what is imported, what is refused, and what an error may say."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lacre.cli.models import load_models
from lacre.errors import ConfigurationError
from lacre.sqlalchemy.mapped import mappers_of, schemes_of

Write = Callable[[str], str]

_MODELS = """
from uuid import UUID, uuid4
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from lacre.sqlalchemy import BlindIndex, encrypted

class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    email: Mapped[str] = encrypted("pii", index=BlindIndex("email", unique=True))

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    note: Mapped[str | None] = encrypted("pii")

BOTH = [Customer, Order]

def made():
    raise AssertionError("nothing is called")
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module of a name of its own into the current directory; return its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before, names = set(sys.modules), iter(range(100))

    def written(text: str) -> str:
        name = f"models_{tmp_path.name.replace('-', '_')}_{next(names)}"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return name

    yield written
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_base_a_class_and_a_list_are_found(write: Write) -> None:
    """A declarative base, a mapped class and a list of classes each name their encrypted columns."""
    module = write(_MODELS)

    base = load_models([f"{module}:Base"])
    one = load_models([f"{module}:Customer"])
    several = load_models([f"{module}:BOTH", f"{module}:Order"])

    assert [str(each) for each in schemes_of(base)] == ["customers.email", "orders.note"]
    assert [str(each) for each in schemes_of(one)] == ["customers.email"]
    assert [mapper.class_.__name__ for mapper in mappers_of(several)] == ["Customer", "Order"]


def test_a_module_without_a_name_is_told_its_bases(write: Write) -> None:
    """MODULE alone is refused, and the hint has the base that is in it."""
    module = write(_MODELS)

    with pytest.raises(ConfigurationError) as caught:
        load_models([module])

    assert caught.value.hint == f"--models {module}:Base"


def test_a_name_that_is_not_there_is_told_the_bases(write: Write) -> None:
    """A name the module does not have is refused, with the base that is in it."""
    module = write(_MODELS)

    with pytest.raises(ConfigurationError, match="has no Basis") as caught:
        load_models([f"{module}:Basis"])

    assert caught.value.hint == f"--models {module}:Base"


@pytest.mark.parametrize("name", ["", ":", ":Base", "a b:Base", "os.system('true'):x", "shop:"])
def test_what_is_no_module_and_name_is_refused(write: Write, name: str) -> None:
    """Whatever is not MODULE:NAME is refused before anything is imported."""
    with pytest.raises(ConfigurationError, match="is not MODULE:NAME"):
        load_models([name])


def test_nothing_is_called(write: Write) -> None:
    """A function is refused and not called to see what it returns."""
    module = write(_MODELS)

    with pytest.raises(ConfigurationError, match="neither a declarative base"):
        load_models([f"{module}:made"])


def test_no_such_module(write: Write) -> None:
    """A module that is not there is one error, with what to do."""
    with pytest.raises(ConfigurationError, match="there is no module nowhere_at_all here"):
        load_models(["nowhere_at_all.models:Base"])


def test_a_module_that_lacks_another_names_it(write: Write) -> None:
    """A module that imports one that is not installed is told apart from one that is not there."""
    module = write("import nowhere_at_all\n")

    with pytest.raises(ConfigurationError, match="needs the module nowhere_at_all"):
        load_models([f"{module}:Base"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise RuntimeError('postgresql://app:canary-7c1@db')\n", r"RuntimeError in .*, line 1"),
        ("\nraise SystemExit('canary-7c1')\n", r"SystemExit in .*, line 2"),
        ("'canary-7c1'\ndef\n", r"SyntaxError in .*, line 2"),
    ],
)
def test_an_error_of_the_module_is_not_quoted(write: Write, text: str, told: str) -> None:
    """What a module raises is named with its place; what it says, which may be a secret, is not."""
    module = write(text)

    with pytest.raises(ConfigurationError, match=told) as caught:
        load_models([f"{module}:Base"])

    assert "canary-7c1" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__


def test_a_refused_declaration_says_its_own_error(write: Write) -> None:
    """What lacre refuses in a declaration is told as it is."""
    module = write(_MODELS.replace('"email", unique=True', '"email", unique=True, bits=32'))

    with pytest.raises(ConfigurationError, match="unique blind index of 32 bits"):
        load_models([f"{module}:Base"])


def test_models_that_do_not_fit_together(write: Write) -> None:
    """A relationship to a class that no imported module has is told at once."""
    line = '    note: Mapped[str | None] = encrypted("pii")\n'
    module = write(_MODELS.replace(line, line + '    shop: Mapped["Nobody"] = relationship()\n'))

    with pytest.raises(ConfigurationError, match="do not fit together"):
        load_models([f"{module}:Base"])
    sys.modules[module].Base.registry.dispose()
