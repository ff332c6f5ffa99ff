# SPDX-License-Identifier: Apache-2.0
"""Searching files for what should be gone."""

import sqlite3

import pytest

from lacre.jobs.sqlite.residue import REMAINS, find_plaintext


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_plaintext_in_a_freed_page_is_found(tmp_path, encoding):
    """A deleted table's text still lies in the file, whatever encoding the database uses."""
    path = tmp_path / "t.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA secure_delete=OFF")
    connection.execute(f"PRAGMA encoding='{encoding}'")
    connection.execute("CREATE TABLE t (v)")
    connection.executemany(
        "INSERT INTO t VALUES (?)", [(f"secret número {n}",) for n in range(500)]
    )
    connection.commit()
    connection.execute("DROP TABLE t")
    connection.commit()
    connection.close()
    residue = find_plaintext(path, [f"secret número {n}" for n in range(100, 200)])

    assert residue.values_found == 100
    assert residue.found["t.db"] >= 100
    assert not residue.clean
    assert residue.bytes_read == path.stat().st_size


def test_the_files_beside_the_database_are_searched(tmp_path):
    """Write-ahead log, journal and shared memory count as well."""
    path = tmp_path / "t.db"
    path.write_bytes(b"nothing here")
    for suffix in ("-wal", "-journal", "-shm"):
        (tmp_path / f"t.db{suffix}").write_bytes(b"..secret one..secret one")

    assert find_plaintext(path, ["secret one"]).found == {
        "t.db": 0,
        "t.db-wal": 2,
        "t.db-journal": 2,
        "t.db-shm": 2,
    }


def test_what_is_not_searched_is_counted(tmp_path):
    """Short values, and values that may stay elsewhere, are left out and said to be."""
    path = tmp_path / "t.db"
    path.write_bytes(b"Portugal and Paris and 12345")
    residue = find_plaintext(
        path, ["Portugal", "Paris", "12345", "somebody", "somebody"], elsewhere=["made in Portugal"]
    )

    assert (residue.searched, residue.short, residue.elsewhere) == (1, 2, 1)
    assert residue.clean


def test_values_that_begin_alike_are_told_apart(tmp_path):
    """One first half, several values: each is matched whole."""
    path = tmp_path / "t.db"
    path.write_bytes(b"common-start-A common-start-AB")

    assert (
        find_plaintext(path, ["common-start-A", "common-start-AB", "common-start-C"]).values_found
        == 2
    )


def test_bytes_are_searched_as_they_are(tmp_path):
    """A blob is found by its bytes, and has no other encoding."""
    path = tmp_path / "t.db"
    path.write_bytes(b"\x00\xff\xfe\x01\x02\x03\x04\x05")

    assert find_plaintext(path, [b"\xff\xfe\x01\x02\x03\x04"]).values_found == 1


def test_what_remains_elsewhere_is_said():
    """The statement names journals' blocks, snapshots, backups and replicas."""
    text = " ".join(REMAINS)

    assert all(
        word in text for word in ("journal", "Snapshots", "Backups", "Replicas", "temporary", "SSD")
    )
