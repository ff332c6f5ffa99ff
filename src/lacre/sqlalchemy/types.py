# SPDX-License-Identifier: Apache-2.0
"""
The column types: of ciphertext, of one index token, both binary in the database, and of several.

Rule 1: a type holds the *name* of a class, never a key: its repr, its cache key and what Alembic
        writes of it are free of secrets.
Rule 2: a type does no I/O and no cryptography. Ciphertext goes in and comes out.
Rule 3: nothing but ciphertext is ever bound: plaintext that got this far is refused, unsent.
"""

import json
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DontWrapMixin
from sqlalchemy.types import TypeDecorator, TypeEngine

from lacre._core.field import looks_encrypted
from lacre.errors import LacreError, MisuseError, UnsupportedQuery
from lacre.fields.stored import IndexToken, IndexTokens, Sealed

__all__ = [
    "EncryptedType",
    "IndexType",
    "SealedForRow",
    "SealedValue",
    "TokensType",
    "noting",
    "raw_of",
    "unwrapped",
]

# What notes the keys that fetched values name, while rows of a session's result are fetched
# (`lacre.sqlalchemy.loading`).
noting: ContextVar[Any] = ContextVar("lacre_noting", default=None)


@final
class SealedValue:
    """
    The state of one encrypted attribute on one object, where that is not a loaded ciphertext.

    *raw* is what the database will hold, or what it holds and is no ciphertext; *pending* is a
    plaintext that was assigned and is not flushed yet. One of the two is set. A ciphertext that
    was loaded is held as its bytes: Python's collector does not visit those, and tens of
    thousands of objects more would have it run all the time.
    """

    __slots__ = ("has_pending", "pending", "raw")

    def __init__(self, raw: Any = None, *, pending: Any = None, has_pending: bool = False) -> None:
        self.raw = raw
        self.pending = pending
        self.has_pending = has_pending

    def sealed(self, raw: bytes | bytearray) -> None:
        """Become ciphertext: the plaintext is not kept."""
        self.raw = raw
        self.pending = None
        self.has_pending = False

    def __repr__(self) -> str:
        if self.has_pending:
            return "<encrypted, not flushed yet>"
        # Plaintext that somebody put into the column may be of any type, and does not print either.
        return f"<sealed, {len(self.raw)} bytes>" if isinstance(self.raw, bytes) else "<sealed>"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if self.has_pending or not isinstance(other, SealedValue | bytes):
            return False
        if isinstance(other, SealedValue) and other.has_pending:
            return False
        return bool(self.raw == raw_of(other))

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        if self.has_pending:
            raise MisuseError(
                "an object with an encrypted value that was not flushed does not pickle or copy",
                hint="flush it first",
            )
        if not (isinstance(self.raw, bytes | bytearray | memoryview) and looks_encrypted(self.raw)):
            raise MisuseError(
                "an object with plaintext in an encrypted column does not pickle or copy"
            )
        return SealedValue, (bytes(self.raw),)


def raw_of(held: Any) -> Any:
    """Return what the database holds, of what an object or a row of Core holds."""
    return held.raw if type(held) is SealedValue else held


class SealedForRow(Sealed):
    """A ciphertext that the statement or the flush under way was made with. Nothing else makes one."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        # An object whose flush failed holds it still: what it opens in is no statement's any more.
        return bytes, (bytes(self),)


class _Binary(sa.LargeBinary):
    """LargeBinary without its conversions: a text found in the column must be seen as such."""

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        # psycopg sends bytes as they are; wrapped in its `Binary` they take its way in Python.
        if dialect.driver == "psycopg":
            return None
        wrapped: Callable[[Any], Any] | None = super().bind_processor(dialect)  # type: ignore[no-untyped-call]
        return wrapped

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        return None


class EncryptedType(TypeDecorator[SealedValue]):
    """
    The type of an encrypted column: values of class *class_*, in field format 1.

    In Core it reads as the bytes of the ciphertext, and as `SealedValue`, which does not print,
    where the column holds anything else; only the ORM, which knows the row, opens one.
    """

    impl = _Binary
    cache_ok = True

    def __init__(self, class_: str, subjects: bool = False) -> None:
        super().__init__()
        self.class_ = class_
        self.subjects = subjects  # whether each value is under the key of its own

    def __repr__(self) -> str:
        return f"EncryptedType({self.class_!r}{', subjects=True' if self.subjects else ''})"

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or type(value) is SealedForRow:
            return value
        if type(value) is SealedValue and not value.has_pending:
            return Sealed(value.raw)
        raise unwrapped(
            UnsupportedQuery(
                f"a value for an encrypted column (class {self.class_}) reached the database without being encrypted; it was not sent",
                hint="assign it to the attribute of an object and flush; in a condition, ask the attribute of the model (`Model.name == value`) and not the column of its table, which is also what filter_by() does where a statement selects no model",
            )
        )

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return _bound(self, dialect, SealedForRow)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else _held(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        # What `process_result_value` would do, without its two calls in between: it runs for
        # every cell that is loaded.
        place, get = (self.class_, None, self.subjects), noting.get

        def process(value: Any) -> Any:
            if value is None:
                return None
            held = value if type(value) is bytes and looks_encrypted(value) else _held(value)
            noted = get()
            if noted is not None and type(held) is bytes:
                noted.keys[place].add(held[3:19])
            return held

        return process

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return self


def _held(value: Any) -> Any:
    # Ciphertext, in whatever the driver returned it, or plaintext that somebody put there.
    if isinstance(value, bytes | bytearray | memoryview) and looks_encrypted(value):
        return bytes(value)
    return SealedValue(value)


class IndexType(TypeDecorator[bytes]):
    """The type of a blind-index column: tokens of *size* bytes, which do not print."""

    impl = _Binary
    cache_ok = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __repr__(self) -> str:
        return f"IndexType({self.size})"

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or isinstance(value, IndexToken):
            return value
        raise unwrapped(
            UnsupportedQuery(
                "a blind index is written and asked by way of its encrypted attribute only"
            )
        )

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        return _bound(self, dialect, IndexToken)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else IndexToken(value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        # As above: without two calls in between.
        return lambda value: None if value is None else IndexToken(value)


class _Numbers(list[int]):
    """Tokens on their way to PostgreSQL, which do not print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} index tokens>"

    __str__ = __repr__


class _Text(str):
    """Tokens on their way to SQLite, which do not print."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<index tokens>"


class TokensType(TypeDecorator[bytes]):
    """The type of a column of several tokens: ``integer[]`` on PostgreSQL, JSON text elsewhere."""

    impl = sa.Text
    cache_ok = True

    def __repr__(self) -> str:
        return "TokensType()"

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.ARRAY(sa.Integer()))
        return dialect.type_descriptor(sa.Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        if not isinstance(value, IndexTokens):
            raise unwrapped(
                UnsupportedQuery(
                    "an index of several tokens is written and asked by way of its encrypted attribute only"
                )
            )
        if dialect.name == "postgresql":
            return _Numbers(value.numbers)
        return _Text(f"[{','.join(map(str, value.numbers))}]")

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        # Not the array's own, which would make a list that prints of it.
        return lambda value: self.process_bind_param(value, dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        return IndexTokens.of(json.loads(value) if isinstance(value, str) else value)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        # As above, and without the array's own: drivers return lists of numbers.
        if dialect.name == "postgresql":
            of = IndexTokens.of
            return lambda value: None if value is None else of(value)
        return lambda value: self.process_result_value(value, dialect)

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return self


def _bound(
    decorated: TypeDecorator[Any], dialect: Dialect, made: type[bytes]
) -> Callable[[Any], Any]:
    """Return what `TypeDecorator` would: `process_bind_param`, without a call for what was just *made*."""
    checked = decorated.process_bind_param
    convert = decorated.impl_instance.bind_processor(dialect)

    def process(value: Any) -> Any:
        if type(value) is not made and value is not None:
            value = checked(value, dialect)
        return value if convert is None else convert(value)

    return process


def unwrapped(error: LacreError) -> LacreError:
    """Return *error*, marked so that SQLAlchemy does not wrap it together with the statement's parameters."""
    marked = type(
        type(error).__name__,
        (type(error), DontWrapMixin),
        {"__module__": type(error).__module__, "__init__": lambda self: None},
    )()
    marked.args = error.args
    marked.hint = error.hint
    return marked  # type: ignore[no-any-return]
