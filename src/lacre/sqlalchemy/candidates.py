# SPDX-License-Identifier: Apache-2.0
"""
Results marked as candidates: what a short index finds for whoever may search and not decrypt.

`candidates` marks a statement; what the session returns of it are `Candidate` objects, so nothing
of it is taken for an answer by somebody who did not read the code that asked. The mark is on the
result and not on the mapped object: a session has one object for a row, and an exact query may
return it too.

Marks, and says so in the evidence. Does not decide whether hits are re-checked
(`lacre.sqlalchemy.rechecking`).

Leans on private names of SQLAlchemy, each pinned by a test: `ChunkedIteratorResult.chunks` and
`iterator`, `Result._yield_per`, `_source_supports_scalars`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, NoReturn, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.result import ChunkedIteratorResult

from lacre.errors import MisuseError, UnsupportedQuery

__all__ = ["Candidate", "candidates", "is_marked", "marked"]

T = TypeVar("T")

_MARKED = "lacre_marked"  # the execution option of a statement


@dataclass(frozen=True, slots=True)
class Candidate(Generic[T]):
    """
    What a statement marked by `candidates` found: a hit, or a row that shares its token by chance.

    Attributes:
        possible: the object, or the value of a column; of a count or a sum, that of the candidates.
        certain: whether it is an answer: hits were re-checked on the plaintext, because whoever
            asked may decrypt, or the index has 96 bits or more.
    """

    possible: T = field(repr=False)  # another column's value may be in it
    certain: bool

    def __bool__(self) -> NoReturn:
        # `if session.scalar(candidates(...)):` would take it for an answer, and 0 of them for one.
        raise MisuseError(
            "a candidate is neither true nor false",
            hint="`is None` says whether there is a row; `.possible` is what it holds, `.certain` whether it is an answer",
        )


def candidates(statement: Any) -> Any:
    """
    Return *statement*, a SELECT, such that its results are `Candidate` objects, in each column.

    Then a principal that may search and not decrypt may ask an index of fewer than 96 bits: every
    row that holds the value is found, and so are rows that share its token by chance. For whoever
    may decrypt, hits are re-checked as they always are, and candidates are `certain`.

    ::

        for found in session.scalars(candidates(select(User).where(User.name == "Ana"))):
            found.possible.city, found.certain

    Raises:
        UnsupportedQuery: *statement* is no SELECT: nothing is written by chance hits.
    """
    if not isinstance(statement, sa.Select):
        raise UnsupportedQuery(
            f"only a SELECT has candidates, and not {type(statement).__name__}",
            hint="to update or delete, select the rows, look at them and write those that are meant",
        )
    return statement.execution_options(**{_MARKED: True})


def is_marked(statement: Any) -> bool:
    """Whether *statement* itself was marked by `candidates`; not what is inside it, nor its session."""
    return isinstance(statement, sa.Select) and _MARKED in statement.get_execution_options()


def marked(result: Any, *, certain: bool, given: Sequence[Callable[[int], None]]) -> Any:
    """
    Return *result* with a `Candidate` in the place of everything in it.

    Args:
        certain: whether its rows are answers.
        given: told how many rows there are, before they leave.

    Raises:
        UnsupportedQuery: it is of no class, so it cannot be marked.
    """
    if not isinstance(result, ChunkedIteratorResult):
        result.close()
        raise UnsupportedQuery(
            "a SELECT of no mapped class or attribute has no results that can be marked",
            hint="select the class, its attributes, or a function with select_from(Model)",
        )
    fetched, single = result.chunks, result._source_supports_scalars  # noqa: SLF001

    def chunks(size: int | None) -> Iterator[Any]:
        for chunk in fetched(size):
            if chunk:
                for told in given:
                    told(len(chunk))
            # One mark for one object: `unique()` goes by identity.
            made: dict[int, Candidate[Any]] = {}

            def mark(found: Any, made: dict[int, Candidate[Any]] = made) -> Candidate[Any]:
                mark = made.get(id(found))
                if mark is None:
                    mark = made[id(found)] = Candidate(found, certain)
                return mark

            yield [mark(row) if single else tuple(map(mark, row)) for row in chunk]

    result.chunks = chunks
    result.iterator = chain.from_iterable(chunks(result._yield_per))  # noqa: SLF001
    return result
