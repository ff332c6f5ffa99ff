# SPDX-License-Identifier: Apache-2.0
"""
The reading process: takes one request on stdin, answers in frames on stdout, and ends.

The request is data (ADR 0028). A deployment that gives this process rights of its own starts a
program that calls `serve` with the configuration, database and model module it may read, which
the request then cannot name. It ends when whoever asked does. Starts nothing and asks nobody.
"""

import io
import json
import os
import sys
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

from lacre.bulk.frames import Kind, read_frame, write_frame
from lacre.errors import ConfigurationError, LacreError, MisuseError

__all__ = ["serve"]


def serve(
    *,
    config: str | os.PathLike[str] | None = None,
    database: str | None = None,
    models: str | None = None,
) -> None:
    """
    Answer one request.

    Args:
        config, database: in place of those that the request names.
        models: the module whose models may be read; any that can be imported without it.
    """
    os.umask(0o077)  # what is written here is plaintext
    answers = _answers()
    request = read_frame(sys.stdin.buffer)
    if request is None or request[0] is not Kind.REQUEST:
        return
    endings: list[Callable[[], object]] = []
    _end_with_who_asked(endings)
    try:
        asked = json.loads(request[1])
        asked.update(
            (name, str(value))
            for name, value in (("config", config), ("database", database))
            if value is not None
        )
        if models is None:
            sys.path[:] = asked["path"]
        done = _read(asked, answers, endings, models)
    except BrokenPipeError:
        return  # nobody is there any more
    except LacreError as error:
        failed = {
            "error": type(error).__name__,
            "message": str(error),
            "hint": error.hint,
        }
    except Exception as error:  # noqa: BLE001 - whatever it is, it must not be printed
        # Its class and no more: words of others may quote a value, or the database's password.
        failed = {"error": "ReadingFailed", "message": _class_of(error), "hint": ""}
    else:
        write_frame(answers, Kind.DONE, json.dumps(done).encode())
        return
    with suppress(BrokenPipeError):
        write_frame(answers, Kind.ERROR, json.dumps(failed).encode())


def _answers() -> BinaryIO:
    # What a model's module prints goes to stderr, and never among the frames.
    stream = os.fdopen(os.dup(1), "wb", buffering=io.DEFAULT_BUFFER_SIZE)
    os.dup2(2, 1)
    return stream


def _end_with_who_asked(endings: list[Callable[[], object]]) -> None:
    def watch() -> None:
        # Whoever asked keeps the other end open, and says nothing more on it.
        with suppress(OSError):
            os.read(0, 1)
        for end in list(endings):
            with suppress(Exception):
                end()
        # At once, in the middle of a query too. Evidence of what left was written before it did.
        os._exit(1)

    threading.Thread(target=watch, name="lacre-bulk-watch", daemon=True).start()


def _read(
    asked: Any, answers: BinaryIO, endings: list[Callable[[], object]], only: str | None
) -> dict[str, Any]:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ConfigurationError(
            "pyarrow is not installed where the reading process runs",
            hint="pip install 'lacre[arrow]'",
        ) from None
    from sqlalchemy import create_engine
    from sqlalchemy.orm import sessionmaker
    from sqlalchemy.pool import NullPool

    from lacre.application import Lacre
    from lacre.bulk.description import Description
    from lacre.bulk.parquet import ParquetFile
    from lacre.bulk.reading import BulkReading

    description = Description.from_json(asked["select"])
    if only is not None and any(name.partition(":")[0] != only for name in description.names):
        # Of every model that is joined, before one is imported.
        raise ConfigurationError(f"only models of {only} are read here")
    models = description.models()
    types = pa.ipc.read_schema(pa.py_buffer(b64decode(asked["types"])))
    acting = asked["acting"]
    budget = asked["rows"]
    if type(budget) is not int or budget < 0:
        raise MisuseError("rows= is a number of rows")
    with ExitStack() as stack:
        application = stack.enter_context(Lacre.load(asked["config"]))
        endings.append(application.flush)
        engine = create_engine(asked["database"], poolclass=NullPool, hide_parameters=True)
        stack.callback(engine.dispose)
        if engine.dialect.is_async:
            raise ConfigurationError(
                f"the reading process is not asynchronous, and {engine.dialect.driver} is",
                hint="database= with another driver: postgresql+psycopg://...",
            )
        if engine.dialect.name == "postgresql":
            engine = engine.execution_options(postgresql_readonly=True)
        session = stack.enter_context(application.sqlalchemy(sessionmaker(engine))())
        stack.enter_context(
            application.acting_as(
                acting["principal"],
                roles=acting["roles"],
                purpose=acting["purpose"],
                tenant=acting["tenant"],
            )
        )
        reading = BulkReading(
            application,
            session,
            description,
            models,
            budget=budget,
            types={field.name: field.type for field in types},
        )
        file = None
        if asked["parquet"] is None:
            write_frame(answers, Kind.SCHEMA, reading.schema.serialize())
        else:
            file = stack.enter_context(
                ParquetFile(Path(asked["parquet"]), reading.schema, name=UUID(asked["part"]))
            )
            endings.append(file.remove)
        rows = batches = 0
        for batch in reading.batches():
            rows, batches = rows + batch.num_rows, batches + 1
            if file is None:
                write_frame(answers, Kind.BATCH, batch.serialize())
            else:
                file.write(batch)
        if file is not None:
            file.finish()
        return {"rows": rows, "batches": batches, "reading": reading.name}


def _class_of(error: BaseException) -> str:
    inner = getattr(error, "orig", None) or error
    return type(inner).__name__
