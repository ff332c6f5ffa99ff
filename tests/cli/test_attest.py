# SPDX-License-Identifier: Apache-2.0
"""An attestation says zero only where it is zero, and whoever holds lacre.toml can check it offline."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from lacre.errors import ConfigurationError, LacreError, MisuseError, Tampered
from lacre.fields.attestation import read_attestation, write_attestation
from lacre.kms.local import Identity
from tests.cli.test_columns import CPFS, Shop, run, shop

__all__ = ["shop"]

MODELS = ("--models", "tests.cli.attested_models:Base")


def attest(shop: Shop, *more: str, name: str = "attested.txt") -> Result:
    file = str(shop.home / name)
    return run(shop, "attest", *MODELS, "--database", shop.url, "--out", file, *more)


def behind_the_checks(shop: Shop, sql: str, *values: Any) -> None:
    if shop.url.startswith("sqlite"):
        with closing(sqlite3.connect(shop.home / "shop.db")) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(sql.replace("%s", "?"), values)
            connection.commit()
        return
    for name in ("ck_customers_cpf_lacre", "ck_customers_cpf_bidx_lacre"):
        shop.execute(f"ALTER TABLE customers DROP CONSTRAINT IF EXISTS {name}")
    shop.execute(sql, *values)


def test_a_finished_migration_is_attested_and_verified_offline(shop: Shop) -> None:
    """All rows counted, the sample opened, its tokens made again; the check needs lacre.toml alone."""
    shop.protect()
    shop.execute("CREATE TABLE customers_history AS SELECT * FROM customers")
    done = attest(shop, "--history-table", "customers_history:cpf")
    assert done.exit_code == 0, done.output
    bare = shop.home / "bare"
    bare.mkdir()
    shutil.copy(shop.home / "lacre.toml", bare)
    shutil.copy(shop.home / "attested.txt", bare)
    checked = run(Shop(shop.url, shop.execute, bare), "verify", str(bare / "attested.txt"))
    other = run(Shop(shop.url, shop.execute, bare), "verify", str(bare / "lacre.toml"))
    record = json.loads((shop.home / "attested.txt").read_bytes().split(b"\n")[0])
    [column], [history] = record["columns"], record["history"]

    assert checked.exit_code == 0, checked.output
    assert "signed by operator" in checked.stderr
    assert other.exit_code == 6
    assert "lacre.toml is no attestation" in other.stderr
    assert (column["rows"], column["encrypted"], column["nulls"], column["plaintext"]) == (4, 3, 1, 0)  # fmt: skip
    assert column["opened"] == 3
    assert column["indexes"] == [
        {"index": "cpf", "kind": "exact", "missing": 0, "compared": 3, "different": 0}
    ]
    assert (history["rows"], history["plaintext"]) == (4, 0)
    assert any("Backups" in sentence for sentence in record["not_covered"])
    assert not any(cpf in done.output + str(record) for cpf in CPFS if cpf)


@pytest.mark.parametrize(
    ("sql", "values", "told"),
    [
        ("UPDATE customers SET cpf = %s WHERE id = '0'", [b"x" * 95], "no ciphertext in 1 rows"),
        ("UPDATE customers SET cpf_bidx = %s WHERE id = '0'", [b"\1\2\3\4"], "1 of 3 tokens"),
        ("UPDATE customers SET cpf_bidx = NULL WHERE id = '0'", [], "1 rows have a value and no token"),
        ("UPDATE customers SET cpf_bidx = %s WHERE id = '3'", [b"\1\2\3\4"], "1 rows have a value and no token"),
    ],
)  # fmt: skip
def test_what_somebody_did_behind_the_checks_is_not_attested(
    shop: Shop, sql: str, values: list[bytes], told: str
) -> None:
    """Planted plaintext, and a token that was replaced, emptied or invented: nothing is signed."""
    shop.protect()
    behind_the_checks(shop, sql, *values)
    done = attest(shop)

    assert done.exit_code == 6
    assert told in done.stderr
    assert not (shop.home / "attested.txt").exists()


def test_plaintext_in_a_history_table_is_not_attested(shop: Shop) -> None:
    """A history table that kept the old values is named with its count."""
    shop.execute("CREATE TABLE customers_history AS SELECT * FROM customers")
    shop.protect()
    done = attest(shop, "--history-table", "customers_history:cpf")

    assert done.exit_code == 6
    assert "the history customers_history.cpf holds something that is no ciphertext in 3 rows" in done.stderr  # fmt: skip
    assert not (shop.home / "attested.txt").exists()


def test_a_job_under_way_is_not_attested(shop: Shop) -> None:
    """In dual there is nothing to attest."""
    shop.half_done("verify")
    done = attest(shop)

    assert isinstance(done.exception, LacreError)
    assert not (shop.home / "attested.txt").exists()


def test_every_byte_is_signed(home: Path, shop: Shop) -> None:
    """No change of an attestation, and no other signer, passes its check."""
    shop.protect()
    attest(shop)
    data = (home / "attested.txt").read_bytes()
    operator = Identity.load(home / "lacre/identities/operator.key")
    stranger = Identity.create("operator")
    found = read_attestation(data, signers=[operator.public])

    assert write_attestation(found, operator) == data
    for at in range(0, len(data), 7):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(Tampered):
            read_attestation(changed, signers=[operator.public])
    for wrong in (b"", b"\n\n", data[:-1], data + b"\n", data * 2, b"[" * 100_000 + b"\n\n"):
        with pytest.raises(Tampered):
            read_attestation(wrong, signers=[operator.public])
    with pytest.raises(Tampered):
        read_attestation(data, signers=[stranger.public])


def test_nothing_that_is_not_zero_is_signed(home: Path, shop: Shop) -> None:
    """Whoever calls the function with something else gets no signature."""
    from dataclasses import replace

    shop.protect()
    attest(shop)
    operator = Identity.load(home / "lacre/identities/operator.key")
    found = read_attestation((home / "attested.txt").read_bytes(), signers=[operator.public])
    [column] = found.columns
    for wrong in (replace(column, plaintext=1), replace(column, state="dual")):
        with pytest.raises(MisuseError, match="nothing is attested"):
            write_attestation(replace(found, columns=(wrong,)), operator)


def test_files_are_not_overwritten_and_names_are_checked(shop: Shop) -> None:
    """An attestation that exists stays; a history without a column, and a table of no model, are errors."""
    shop.protect()
    (shop.home / "attested.txt").write_text("mine")
    for arguments in ([], ["--history-table", "customers"], ["--table", "custmers"]):
        done = attest(shop, *arguments, name="attested.txt" if not arguments else "other.txt")
        assert isinstance(done.exception, ConfigurationError)

    assert (shop.home / "attested.txt").read_text() == "mine"
