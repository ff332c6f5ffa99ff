# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest

from lacre.errors import ConfigurationError, KeyNotFound, MisuseError
from lacre.kms.local.files import (
    locked,
    read_private,
    read_shared,
    stamp_of,
    write_private,
    write_shared,
)


def test_a_shared_file_is_replaced_whole(tmp_path: Path) -> None:
    """A write leaves one new file, readable by all, with another stamp, and no drafts."""
    path = tmp_path / "finance.json"
    write_shared(path, b"first")
    before = stamp_of(path)
    held = path.open("rb")
    write_shared(path, b"other")

    with held:
        assert held.read() == b"first"
    assert read_shared(path, limit=10) == (b"other", stamp_of(path))
    assert stamp_of(path) != before
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_shared_file_is_read_to_its_limit(tmp_path: Path) -> None:
    """One byte past the limit is returned, so that the reader sees that it is too long."""
    path = tmp_path / "finance.json"
    path.write_bytes(bytes(100))

    assert len(read_shared(path, limit=10)[0]) == 11


def test_missing_and_unusable_files_say_so(tmp_path: Path) -> None:
    """A missing key is KeyNotFound with its name; a directory or FIFO in its place is refused."""
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "fifo.json")

    for read in (lambda path: read_shared(path, limit=10), stamp_of):
        with pytest.raises(KeyNotFound, match="finance"):
            read(tmp_path / "finance.json")
        with pytest.raises(ConfigurationError):
            read(tmp_path / ("x" * 300))
    for name in ("folder.json", "fifo.json"):
        with pytest.raises(ConfigurationError, match="regular"):
            read_shared(tmp_path / name, limit=10)
    with pytest.raises(ConfigurationError):
        write_shared(tmp_path / "none" / "finance.json", b"")
    with pytest.raises(ConfigurationError):
        write_shared(tmp_path / "folder.json", b"")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    """A second holder is refused while the first holds it, and only then."""
    path = tmp_path / ".finance.lock"
    with locked(path), pytest.raises(MisuseError, match="another process"), locked(path):
        pytest.fail("held twice")

    with pytest.raises(RuntimeError), locked(path):
        raise RuntimeError
    with locked(path):
        assert path.exists()


def test_a_lock_is_not_a_link(tmp_path: Path) -> None:
    """A link in the lock's place is refused: nothing is created where it points."""
    (tmp_path / ".finance.lock").symlink_to(tmp_path / "elsewhere")

    with (
        pytest.raises(ConfigurationError, match="symbolic link"),
        locked(tmp_path / ".finance.lock"),
    ):
        pytest.fail("followed")
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_file_is_bounded(tmp_path: Path) -> None:
    """A file that no identity could be is not read to its end."""
    path = tmp_path / "x.id"
    write_private(path, bytes(70_000), replace=False)

    with pytest.raises(ConfigurationError, match="too long"):
        read_private(path)


def test_a_private_file_does_not_follow_a_link_when_written(tmp_path: Path) -> None:
    """Writing replaces a link, or refuses it; it never writes through it."""
    target, link = tmp_path / "target", tmp_path / "x.id"
    target.write_bytes(b"kept")
    link.symlink_to(target)

    with pytest.raises(MisuseError):
        write_private(link, b"secret", replace=False)
    write_private(link, b"secret", replace=True)
    assert target.read_bytes() == b"kept"
    assert not link.is_symlink()
    assert read_private(link) == b"secret"


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    """Whatever fails, the old content is there and nothing else."""
    path = tmp_path / "x.id"
    write_private(path, b"old", replace=False)

    with pytest.raises(TypeError):
        write_private(path, "not bytes", replace=True)  # type: ignore[arg-type]
    assert read_private(path) == b"old"
    assert list(tmp_path.iterdir()) == [path]
