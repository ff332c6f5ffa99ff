# SPDX-License-Identifier: Apache-2.0
"""What is asked of the key store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from lacre import Lacre


@contextmanager
def key_queries(lacre: Lacre, *, cold: bool = True) -> Iterator[list[str]]:
    """The questions asked for rows of data keys by id meanwhile, with an empty cache to begin with."""
    store: Any = lacre.store
    asked: list[str] = []
    if cold:
        lacre.resolver.forget()

    def executed(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        values = parameters.values() if isinstance(parameters, dict) else parameters
        if "key_id IN" in statement and "data" in map(str, values):
            asked.append(statement)

    event.listen(store._database.engine, "before_cursor_execute", executed)
    try:
        yield asked
    finally:
        event.remove(store._database.engine, "before_cursor_execute", executed)
