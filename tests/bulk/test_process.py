# SPDX-License-Identifier: Apache-2.0
"""The reading process: what it is told, how it ends, and what it leaves behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import URL, Engine, select, text

from lacre import AccessDenied, ConfigurationError, NoPrincipal, acting_as
from lacre.bulk import BulkReader
from lacre.bulk.frames import Kind, read_frame, write_frame
from lacre.bulk.parquet import ParquetFile, part_of
from lacre.errors import MisuseError, ReadingFailed, RowBudgetExceeded
from lacre.fields.column_state import ColumnState
from tests.bulk.conftest import CANARY
from tests.sqlalchemy.conftest import on_postgresql, on_sqlite
from tests.sqlalchemy.models import Customer
from tests.sqlalchemy.test_column_state import Move, moved

__all__ = ["moved"]

ROOT = Path(__file__).resolve().parents[2]
EMAILS = select(Customer.email)
People = list[dict[str, Any]]


def _until(true: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _command(pid: Path, serve: str = "serve()") -> Sequence[str]:
    program = (
        f"import os, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid()));"
        f"from lacre.bulk.process import serve; {serve}"
    )
    return [sys.executable, "-c", program]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_neither_arguments_nor_environment_hold_what_is_asked(
    reader: BulkReader, home: Path, url: URL, tmp_path: Path
) -> None:
    """The database, the statement and whoever acts are sent over the pipe."""
    pid, seen = tmp_path / "pid", tmp_path / "seen"
    told = f"pathlib.Path({str(seen)!r}).write_bytes(pathlib.Path('/proc/self/cmdline').read_bytes() + pathlib.Path('/proc/self/environ').read_bytes()); serve()"
    made = BulkReader(config=home / "lacre.toml", database=url, command=_command(pid, told))
    asked = EMAILS.where(Customer.email == f"{CANARY}3@example.org")

    assert made.to_arrow(asked, rows=5).num_rows == 1
    for secret in (CANARY, str(url), "svc:churn"):
        assert secret.encode() not in seen.read_bytes()
    assert str(url) not in repr(made)


@on_sqlite
@pytest.mark.usefixtures("analyst")
def test_a_reading_process_that_is_killed_is_an_error(
    people: People, home: Path, url: URL, engine: Engine, reader: BulkReader, tmp_path: Path
) -> None:
    """What left before counts, as its evidence says; the end does not pass for the end of the rows."""
    with engine.begin() as connection:
        # More than a pipe takes: the process waits with its second batch.
        connection.execute(text("UPDATE customers SET city = :city"), {"city": "x" * 200_000})
    pid = tmp_path / "pid"
    made = BulkReader(config=home / "lacre.toml", database=url, command=_command(pid))
    batches = made.batches(select(Customer.email, Customer.city), rows=100)
    first = next(batches)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    with pytest.raises(ReadingFailed, match="exit -9"):
        list(batches)

    assert first.num_rows == 10


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_a_reading_process_that_is_killed_leaves_no_part_of_a_file(
    home: Path, url: URL, engine: Engine, reader: BulkReader, tmp_path: Path
) -> None:
    """Whoever asked removes what the process had written, and could not remove itself."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE customers SET city = :city"), {"city": "x" * 3_000_000})
    pid, directory = tmp_path / "pid", tmp_path / "files"
    directory.mkdir()
    made = BulkReader(config=home / "lacre.toml", database=url, command=_command(pid))
    seen: list[Path] = []

    def kill() -> None:
        while not seen:
            seen.extend(directory.iterdir())
        os.kill(int(pid.read_text()), signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    with pytest.raises(ReadingFailed, match="exit -9"):
        made.to_parquet(select(Customer.email, Customer.city), directory / "it.parquet", rows=100)
    killing.join()

    assert [path.suffix for path in seen] == [".part"]
    assert list(directory.iterdir()) == []


@on_sqlite
@pytest.mark.usefixtures("people", "analyst")
def test_a_reading_that_nobody_goes_on_with_ends(
    home: Path, url: URL, engine: Engine, reader: BulkReader, tmp_path: Path
) -> None:
    """Closing the batches ends the process."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE customers SET city = :city"), {"city": "x" * 200_000})
    pid = tmp_path / "pid"
    made = BulkReader(config=home / "lacre.toml", database=url, command=_command(pid))
    batches = made.batches(select(Customer.email, Customer.city), rows=100)
    next(batches)
    batches.close()

    assert not _alive(int(pid.read_text()))


@on_postgresql
@pytest.mark.usefixtures("people")
def test_a_reading_ends_with_who_asked(
    home: Path, url: URL, engine: Engine, reader: BulkReader, tmp_path: Path
) -> None:
    """In the middle of a query too, and what it wrote is removed."""
    pid, out = tmp_path / "pid", tmp_path / "out"
    out.mkdir()
    arguments = [
        str(home / "lacre.toml"),
        url.render_as_string(hide_password=False),
        str(out / "people.parquet"),
        *_command(pid),
    ]
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE"))
        asking = subprocess.Popen(
            [sys.executable, "-m", "tests.bulk.asking", *arguments],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            assert _until(lambda: list(out.iterdir()))
            assert [entry.suffix for entry in out.iterdir()] == [".part"]
            reading = int(pid.read_text())
        finally:
            asking.kill()
            asking.wait()

        assert _until(lambda: not _alive(reading))
        assert list(out.iterdir()) == []


@on_sqlite
@pytest.mark.usefixtures("people")
def test_a_deployment_decides_what_may_be_asked(
    reader: BulkReader, home: Path, url: URL, tmp_path: Path
) -> None:
    """Its own program names the configuration, the database and the models; a request cannot."""
    fixed = f"serve(config={str(home / 'lacre.toml')!r}, database={str(url)!r}, models='tests.sqlalchemy.models')"
    made = BulkReader(
        config="/nowhere", database="sqlite://", command=_command(tmp_path / "pid", fixed)
    )
    other = (
        f"serve(config={str(home / 'lacre.toml')!r}, database={str(url)!r}, models='shop.models')"
    )
    refusing = BulkReader(
        config="/nowhere", database="sqlite://", command=_command(tmp_path / "pid", other)
    )
    with acting_as("svc:churn", roles={"app"}, purpose="churn model"):
        assert made.to_arrow(EMAILS, rows=30).num_rows == 25
        with pytest.raises(ConfigurationError, match=r"shop\.models"):
            refusing.to_arrow(EMAILS, rows=30)


@on_sqlite
@pytest.mark.usefixtures("analyst")
def test_what_cannot_be_read_says_so(
    reader: BulkReader, home: Path, tmp_path: Path, forked: Sequence[str]
) -> None:
    """Of others' errors only the class is told: their words may quote a password."""
    config = home / "lacre.toml"

    def reading(database: str, **more: Any) -> Any:
        how = {"command": forked} | more
        return BulkReader(config=config, database=database, **how).to_arrow(EMAILS, rows=5)

    with pytest.raises(ReadingFailed, match="OperationalError") as caught:
        reading(f"sqlite:////nowhere/{CANARY}.db")
    assert CANARY not in str(caught.value)
    with pytest.raises(ConfigurationError, match="not asynchronous"):
        reading("sqlite+aiosqlite:///x.db")
    with pytest.raises(ConfigurationError, match="cannot be started"):
        reading("sqlite://", command=["/nowhere/python"])
    with pytest.raises(ConfigurationError, match="no"):
        BulkReader(config=tmp_path / "none.toml", database="sqlite://", command=forked).to_arrow(
            EMAILS, rows=5
        )
    with pytest.raises(ConfigurationError, match="no file can be made"):
        reader.to_parquet(EMAILS, tmp_path / "none" / "x.parquet", rows=5)
    with pytest.raises(ReadingFailed, match="exit 0"):
        reading("sqlite://", command=[sys.executable, "-c", "print('no frame')"])
    for rows in (-1, True, "5"):
        with pytest.raises(MisuseError):
            reader.to_arrow(EMAILS, rows=rows)  # type: ignore[arg-type]


@on_sqlite
def test_somebody_acts_for_a_purpose(reader: BulkReader, home: Path) -> None:
    """Nobody is refused here, and a purpose that the policy does not know there."""
    with pytest.raises(NoPrincipal):
        reader.to_arrow(EMAILS, rows=5)
    config = home / "lacre.toml"
    config.write_text('purposes = ["billing"]\n' + config.read_text("utf-8"), "utf-8")
    with (
        acting_as("svc:churn", roles={"app"}, purpose="churn model"),
        pytest.raises(AccessDenied, match="churn model"),
    ):
        reader.to_arrow(EMAILS, rows=5)


@on_sqlite
@pytest.mark.usefixtures("analyst")
def test_a_column_that_still_holds_plaintext_is_not_read(reader: BulkReader, moved: Move) -> None:
    """Its present state is not `encrypted`."""
    moved(ColumnState.PLAINTEXT)
    moved(ColumnState.DUAL)
    with pytest.raises(ConfigurationError, match="present state is dual"):
        reader.to_arrow(EMAILS, rows=5)


def test_without_pyarrow_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    """Here, before a process is started."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    reader = BulkReader(config=home / "lacre.toml", database="sqlite://")
    with (
        acting_as("svc:churn", roles={"app"}, purpose="churn model"),
        pytest.raises(ConfigurationError) as caught,
    ):
        reader.to_arrow(EMAILS, rows=5)

    assert caught.value.hint == "pip install 'lacre[arrow]'"


def test_what_was_not_finished_is_no_parquet_file(tmp_path: Path) -> None:
    """Neither while it is written nor when it was given up: whoever kept it finds no footer."""
    schema = pa.schema([("x", pa.int64())])
    batch = pa.record_batch([[1, 2, 3]], schema=schema)
    path, kept, name = tmp_path / "it.parquet", tmp_path / "kept.parquet", uuid4()

    def written(finish: bool) -> None:
        with ParquetFile(path, schema, name=name) as file:
            file.write(batch)
            kept.unlink(missing_ok=True)
            os.link(part_of(path, name), kept)
            with pytest.raises(pa.ArrowInvalid):
                pq.read_table(kept)
            if not finish:
                raise RowBudgetExceeded("enough")
            file.finish()

    with pytest.raises(RowBudgetExceeded):
        written(finish=False)
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(kept)
    assert list(tmp_path.iterdir()) == [kept]

    written(finish=True)
    assert pq.read_table(path).num_rows == 3
    assert not part_of(path, name).exists()


def test_frames_are_whole_or_none(tmp_path: Path) -> None:
    """An end in the middle, an unknown kind and a length beyond reason are no frames."""
    path = tmp_path / "frames"
    with path.open("wb") as stream:
        write_frame(stream, Kind.DONE, b"{}")
    whole = path.read_bytes()
    found = []
    for data in (whole, b"", whole[:5], whole[:-1], b"?" + whole[1:], b"B" + b"\xff" * 8):
        path.write_bytes(data)
        with path.open("rb") as stream:
            found.append(read_frame(stream))

    assert found == [(Kind.DONE, b"{}"), None, None, None, None, None]
