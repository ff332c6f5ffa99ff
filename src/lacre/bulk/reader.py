# SPDX-License-Identifier: Apache-2.0
"""
Asking for a reading in bulk: starts the process that reads, and takes what it answers.

Rule 1: this process holds no key for it, and of `to_parquet` no value either.
Rule 2: an answer that does not say that it is finished is an error, whatever came before.

Decides nothing: the reading process does (`lacre.bulk.reading`). Pickles nothing.
"""

import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from lacre import errors
from lacre.bulk.frames import Kind, read_frame, write_frame
from lacre.context import current
from lacre.errors import ConfigurationError, LacreError, MisuseError, ReadingFailed

__all__ = ["BulkReader", "BulkReport"]

_PATIENCE = 10.0  # seconds for a process that has nothing left to do but to end


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkReport:
    """What was read. *reading* is what its events carry."""

    rows: int
    batches: int
    reading: str


class BulkReader:
    """
    Reads in bulk what a `select` of models' attributes asks for, in a process of its own.

    Whoever acts here acts there: ``with acting_as("svc:churn", roles={"analyst"}, purpose="churn
    model"): ...``. *rows* is the budget: one row more and nothing is handed out any more.

    Args:
        config: the `lacre.toml` of the reading process: its credential, policy and evidence.
        database: the URL it connects to. Sent over a pipe, never as an argument.
        environ: its whole environment; this process's by default.
        command: starts it in place of ``python -m lacre.bulk``: as another user, say.
    """

    def __init__(
        self,
        *,
        config: str | os.PathLike[str] = "lacre.toml",
        database: Any,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "lacre.bulk"),
    ) -> None:
        self._config = str(Path(config).absolute())
        # Of SQLAlchemy's URL, whose text hides the password.
        whole = getattr(database, "render_as_string", None)
        self._database = database if whole is None else whole(hide_password=False)
        if not isinstance(self._database, str):
            raise ConfigurationError(
                "database= is a URL: the reading process makes a connection of its own",
                hint='database="postgresql+psycopg://...", or engine.url',
            )
        self._environ = None if environ is None else dict(environ)
        self._command = list(command)

    def __repr__(self) -> str:
        return f"<BulkReader {self._config}>"

    def to_arrow(self, statement: Any, *, rows: int, types: Mapping[str, Any] | None = None) -> Any:
        """
        Return what *statement* selects as a `pyarrow.Table`.

        Args:
            types: other Arrow types than the usual, by column: ``{"total": pa.string()}``.

        Raises:
            AccessDenied: of a class the policy gives whoever acts nothing, or no such budget.
            RowBudgetExceeded: there are more rows than *rows*.
            UnsupportedQuery: the statement has no description.
            ReadingFailed: the process ended without finishing.
        """
        pa = _pyarrow()
        request = self._request(pa, statement, rows, types, None)
        with closing(self._answers(pa, request)) as answers:
            schema = next(answers)
            return pa.Table.from_batches(answers, schema=schema)

    def batches(
        self, statement: Any, *, rows: int, types: Mapping[str, Any] | None = None
    ) -> Generator[Any, None, BulkReport]:
        """
        Yield record batches as they come, in as much memory as one of them takes.

        Those that were yielded before an error have left, as their evidence says. Raises as
        `to_arrow` does. Close it where it is not read to its end.
        """
        pa = _pyarrow()
        request = self._request(pa, statement, rows, types, None)
        with closing(self._answers(pa, request)) as answers:
            next(answers)  # the schema, which every batch has
            return (yield from answers)

    def to_parquet(
        self,
        statement: Any,
        path: str | os.PathLike[str],
        *,
        rows: int,
        types: Mapping[str, Any] | None = None,
    ) -> BulkReport:
        """
        Write what *statement* selects to *path*, which the reading process does: no value comes here.

        The file is its owner's only, and is put in its place when it is whole. Raises as
        `to_arrow` does; then there is no file, or the one that was there before.
        """
        pa = _pyarrow()
        place, part = Path(path).absolute(), uuid4()
        request = self._request(pa, statement, rows, types, place, part)
        answers = self._answers(pa, request)
        try:
            while True:
                try:
                    next(answers)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
        finally:
            # Killed, for want of memory say, the process could not remove what it had written. It
            # may be another user's: then it stays, its owner's only.
            from lacre.bulk.parquet import part_of

            answers.close()
            with suppress(OSError):
                part_of(place, part).unlink()

    def _request(
        self,
        pa: Any,
        statement: Any,
        rows: int,
        types: Mapping[str, Any] | None,
        parquet: Path | None,
        part: UUID | None = None,
    ) -> bytes:
        from lacre.bulk.description import described

        if type(rows) is not int or rows < 0:
            raise MisuseError("rows= is the budget, a number of rows")
        acting = current()
        wanted = pa.schema(list((types or {}).items()))
        return json.dumps(
            {
                "config": self._config,
                "database": self._database,
                "path": [str(Path(entry).absolute()) for entry in sys.path],
                "acting": {
                    "principal": acting.principal,
                    "roles": sorted(acting.roles),
                    "purpose": acting.purpose,
                    "tenant": acting.tenant,
                },
                "select": described(statement).to_json(),
                "rows": rows,
                "types": b64encode(wanted.serialize()).decode(),
                "parquet": None if parquet is None else str(parquet),
                "part": None if part is None else part.hex,
            }
        ).encode()

    def _answers(self, pa: Any, request: bytes) -> Generator[Any, None, BulkReport]:
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):  # it ended at once; what it said is read below
                write_frame(process.stdin, Kind.REQUEST, request)  # type: ignore[arg-type]
            schema = None
            while True:
                frame = read_frame(process.stdout)  # type: ignore[arg-type]
                if frame is None:
                    raise ReadingFailed(
                        f"the reading process ended without finishing (exit {_end(process)})",
                        hint="its messages are on stderr; nothing that it left unfinished counts",
                    )
                kind, payload = frame
                if kind is Kind.SCHEMA:
                    schema = pa.ipc.read_schema(pa.py_buffer(payload))
                    yield schema
                elif kind is Kind.BATCH:
                    yield pa.ipc.read_record_batch(pa.py_buffer(payload), schema)
                elif kind is Kind.ERROR:
                    raise _error_of(json.loads(payload))
                else:
                    return BulkReport(**json.loads(payload))
        finally:
            _end(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(  # noqa: S603 - the command is the caller's own
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=self._environ,
            )
        except OSError as error:
            raise ConfigurationError(
                f"the reading process cannot be started: {error.strerror}",
                hint="command= starts it; by default this Python does",
            ) from None


def _end(process: "subprocess.Popen[bytes]") -> int:
    # Closing its stdin ends it, wherever it is, and has it remove what it did not finish.
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(BrokenPipeError):
                stream.close()
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _error_of(told: Mapping[str, str]) -> LacreError:
    kind: Any = getattr(errors, str(told.get("error")), None)
    if kind is errors.Tampered:
        return errors.Tampered()
    message, hint = str(told.get("message")), str(told.get("hint"))
    if not isinstance(kind, type) or not issubclass(kind, LacreError):
        kind = ReadingFailed
    if kind is ReadingFailed:
        message, hint = (
            f"the reading process failed: {message}",
            "run the statement with a session of lacre to see what is wrong: the error's own words may quote a value",
        )
    made: LacreError = kind(message, hint=hint)
    return made


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ModuleNotFoundError:
        raise ConfigurationError(
            "pyarrow is not installed", hint="pip install 'lacre[arrow]'"
        ) from None
    return pa
