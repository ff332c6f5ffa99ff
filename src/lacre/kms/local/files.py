# SPDX-License-Identifier: Apache-2.0
"""
The files of the local keystore: private ones (identities) and shared ones (manifests).

Implements ``spec/local-keystore.md``, section 5. Does not know what is in them. POSIX only.

Every write goes to a new file beside the old one, is synced, renamed over it, and the directory
is synced: after a crash there is the old file or the new one.
"""

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lacre.errors import ConfigurationError, KeyNotFound, MisuseError

__all__ = [
    "Stamp",
    "check_private",
    "locked",
    "read_private",
    "read_shared",
    "stamp_of",
    "write_private",
    "write_shared",
]

# What changes whenever a file is replaced or written to.
Stamp = tuple[int, int, int, int]

_PRIVATE_LIMIT = 64 * 1024
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: a FIFO put there does not hang us


def read_private(path: Path) -> bytes:
    """
    Read a file that only its owner, who is us, can read.

    Raises:
        ConfigurationError: it is missing, a symbolic link, not ours, or open to others; or its
            directory is.
    """
    with _private(path) as file:
        data = file.read(_PRIVATE_LIMIT + 1)
    if len(data) > _PRIVATE_LIMIT:
        del data
        raise ConfigurationError(f"{path} is too long")
    return data


def check_private(path: Path) -> None:
    """Raise as `read_private` would, apart from the length, without reading."""
    with _private(path):
        return


@contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    with _private_folder(path.parent) as folder:
        try:
            # Relative to the directory that was checked, so that nobody swaps it in between.
            descriptor = os.open(path.name, _READ | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            raise ConfigurationError(f"there is no file {path}") from None
        except OSError as error:
            raise _refused(path, error) from None
        with _regular(descriptor, path) as (file, found):
            _only_ours(path, found, "600")
            yield file


def write_private(path: Path, data: bytes, *, replace: bool) -> None:
    """
    Write a file with mode 0600, in a directory with mode 0700 that is made if it is missing.

    Raises:
        ConfigurationError: the directory is not ours or open to others, or cannot be written.
        MisuseError: the file exists and *replace* is false.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path.parent, error) from None
    with _private_folder(path.parent) as folder:
        _write(path, data, mode=0o600, folder=folder, replace=replace)


def read_shared(path: Path, *, limit: int) -> tuple[bytes, Stamp]:
    """
    Read at most *limit* + 1 bytes of a file that others may read, with its stamp.

    Its content proves itself, so neither its owner nor a link on the way to it matters.

    Raises:
        KeyNotFound: it is missing.
        ConfigurationError: it cannot be read.
    """
    try:
        # Stamp and content are of one open file; a later rename shows as another stamp.
        with _regular(os.open(path, _READ), path) as (file, found):
            return file.read(limit + 1), _stamp(found)
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _refused(path, error) from None


def stamp_of(path: Path) -> Stamp:
    """
    Return the stamp that `read_shared` would return now.

    Raises:
        KeyNotFound: the file is missing.
        ConfigurationError: it cannot be looked at.
    """
    try:
        return _stamp(path.stat())
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _refused(path, error) from None


def write_shared(path: Path, data: bytes) -> None:
    """
    Replace a file, with mode 0644.

    Raises:
        ConfigurationError: the directory cannot be written.
    """
    with _folder(path.parent, 0) as folder:
        _write(path, data, mode=0o644, folder=folder, replace=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    Hold an exclusive lock on *path*, which is made if it is missing and never removed.

    Raises:
        MisuseError: another process, or another thread, holds it.
        ConfigurationError: the directory cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise MisuseError(
            "another process is changing this key", hint="try again when it is done"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, *, mode: int, folder: int, replace: bool) -> None:
    draft = f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        descriptor = os.open(
            draft,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
            dir_fd=folder,
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                os.replace(draft, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                # A link, unlike a rename, fails where a file is: a private key is never lost so.
                os.link(
                    draft, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False
                )
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
        os.fsync(folder)
    except FileExistsError:
        raise MisuseError(
            f"{path} exists already", hint="move it away first; what it holds cannot be made again"
        ) from None
    except OSError as error:
        raise _refused(path, error) from None


@contextmanager
def _folder(path: Path, flags: int) -> Iterator[int]:
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _regular(descriptor: int, path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    # Owns the descriptor. Looked at after it is open, so that nobody swaps it in between.
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{path} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file, found
    finally:
        os.close(descriptor)


@contextmanager
def _private_folder(path: Path) -> Iterator[int]:
    with _folder(path, os.O_NOFOLLOW) as folder:
        _only_ours(path, os.fstat(folder), "700")
        yield folder


def _only_ours(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{path} belongs to another user",
            hint="an identity is used by the user who owns its file",
        )
    if found.st_mode & 0o077:
        raise ConfigurationError(f"{path} is open to other users", hint=f"chmod {mode} {path}")


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def _missing(path: Path) -> KeyNotFound:
    return KeyNotFound(
        f"the local keystore has no key {path.stem!r}",
        hint="its operator creates it: lacre keys create",
    )


def _refused(path: Path, error: OSError) -> ConfigurationError:
    if error.errno == errno.ELOOP:
        return ConfigurationError(f"{path} is a symbolic link", hint="name the file itself")
    return ConfigurationError(f"{path} cannot be used: {error.strerror}")
