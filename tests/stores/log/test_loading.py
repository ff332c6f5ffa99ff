"""Rows put in by COPY: what the driver raises is told as any other error, and quotes nothing."""

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from lacre.errors import LacreError
from lacre.stores.log import loading
from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import TOUCHED
from tests.components.postgresql import Database

pytestmark = pytest.mark.any_sqlalchemy


def test_errors_of_copy_are_translated(database: Database) -> None:
    """`DBAPIError.instance` makes the same errors of COPY as of statements: wrapped, without a value."""
    log = AuditLog(database.text_url())
    log.upgrade()
    with pytest.raises(LacreError) as caught, log.writing() as connection:
        loading.insert(connection, TOUCHED, [("canary\0", 202611, 1)])
    with pytest.raises(IntegrityError), log.writing() as connection:
        loading.insert(connection, TOUCHED, [("a", 202611, 1), ("a", 202611, 1)])

    assert "canary" not in repr(caught.value) + str(caught.value.__cause__)
    assert caught.value.__suppress_context__
    assert callable(DBAPIError.instance)
    with log.reading() as connection:
        assert connection.execute(TOUCHED.select()).all() == []
    log.close()
