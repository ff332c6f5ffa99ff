# SPDX-License-Identifier: Apache-2.0
"""Signed rows that say whether a column may hold plaintext."""

from dataclasses import fields, replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lacre.errors import MisuseError, Tampered
from lacre.fields.column_state import ColumnState, ColumnStateRow, move, state_of, verify

PLACE = {"keystore": "k", "store": "main", "table": "customers", "column": "cpf", "class_": "pii"}


class Identity:
    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.fingerprint = f"{seed:032x}"

    def sign(self, message):
        return self._key.sign(message)

    def verify(self, message, signature):
        try:
            self._key.public_key().verify(signature, message)
        except InvalidSignature:
            raise Tampered from None


class Kept:
    def __init__(self) -> None:
        self.rows = {}

    def get(self, store, table, column):
        return self.rows.get((store, table, column))

    def put(self, row):
        present = self.get(row.store, row.table, row.column)
        if row.revision != (present.revision if present else 0) + 1:
            raise MisuseError("somebody else wrote in between")
        self.rows[row.store, row.table, row.column] = row


OPERATOR, STRANGER = Identity(1), Identity(2)
SIGNERS = {OPERATOR.fingerprint: OPERATOR}


def moved(states, to, signer=OPERATOR, **changes):
    return move(states, signer, **(PLACE | changes), to=to, changed="2026-01-02T03:04:05Z")


def test_without_a_row_a_column_is_encrypted():
    """Deleting a row gains nothing: the strictest state is the one nobody wrote."""
    assert state_of(Kept(), SIGNERS, **PLACE) is ColumnState.ENCRYPTED


def test_a_state_moves_and_counts_its_revisions():
    """Each move is a new signed row; a move to where the column is writes none."""
    states = Kept()

    assert [
        moved(states, state).revision
        for state in (
            ColumnState.DUAL,
            ColumnState.DUAL,
            ColumnState.ENCRYPTED,
            ColumnState.PLAINTEXT,
        )
    ] == [1, 1, 2, 3]
    assert state_of(states, SIGNERS, **PLACE) is ColumnState.PLAINTEXT


@pytest.mark.parametrize(
    "name",
    [
        field.name
        for field in fields(ColumnStateRow)
        if field.name not in ("signature", "state", "revision")
    ],
)
def test_no_part_of_a_row_changes_unnoticed(name):
    """Every column of the row is in what was signed."""
    row = moved(Kept(), ColumnState.DUAL)

    assert verify(row, SIGNERS) is row
    with pytest.raises(Tampered):
        verify(replace(row, **{name: getattr(row, name) + "x"}), SIGNERS)


@pytest.mark.parametrize(
    "change", [{"state": ColumnState.PLAINTEXT}, {"revision": 2}, {"signature": bytes(64)}]
)
def test_no_state_or_revision_is_invented(change):
    """A state, revision or signature that was not signed is refused."""
    with pytest.raises(Tampered):
        verify(replace(moved(Kept(), ColumnState.DUAL), **change), SIGNERS)


def test_a_strangers_signature_counts_for_nothing():
    """Only the identities that the caller names may move a column, whatever fingerprint a row claims."""
    states = Kept()
    moved(states, ColumnState.PLAINTEXT, STRANGER)
    row = states.get("main", "customers", "cpf")

    with pytest.raises(Tampered):
        state_of(states, SIGNERS, **PLACE)
    with pytest.raises(Tampered):
        verify(replace(row, signer=OPERATOR.fingerprint), SIGNERS)
    with pytest.raises(Tampered):
        verify(row, {STRANGER.fingerprint: OPERATOR})


@pytest.mark.parametrize(
    "change",
    [
        {"keystore": "other"},
        {"store": "crm"},
        {"table": "people"},
        {"column": "email"},
        {"class_": "banking"},
    ],
)
def test_a_row_about_something_else_is_refused(change):
    """A rightly signed row, copied to another key store, store, table, column or class, does not count there."""
    states, row = Kept(), moved(Kept(), ColumnState.PLAINTEXT)
    asked = PLACE | change
    states.rows[asked["store"], asked["table"], asked["column"]] = row

    with pytest.raises(Tampered):
        state_of(states, SIGNERS, **asked)


def test_a_forged_row_is_replaced_by_a_signed_one():
    """Moving a column to the state a forged row claims signs it anew."""
    states = Kept()
    row = moved(states, ColumnState.DUAL)
    states.rows["main", "customers", "cpf"] = replace(row, signature=bytes(64))

    assert moved(states, ColumnState.DUAL).revision == 2
    assert state_of(states, SIGNERS, **PLACE) is ColumnState.DUAL


def test_a_column_does_not_change_its_class_on_the_way():
    """The class is part of what was promised about the column."""
    states = Kept()
    moved(states, ColumnState.DUAL)

    with pytest.raises(MisuseError):
        moved(states, ColumnState.ENCRYPTED, class_="banking")


def test_the_signed_bytes_are_those_of_the_specification():
    """The example of spec/column-state.md, byte for byte."""
    row = moved(Kept(), ColumnState.DUAL)

    assert row.signed_bytes().startswith(
        b"lacre/1/column\0\0\0\x09\0\x07changed\0\x142026-01-02T03:04:05Z\0\x05class\0\x03pii\0\x06column\0\x03cpf"
    )
