"""A child that is forked while another thread is at the database can use it."""

import os
import threading
from pathlib import Path

import pytest

from lacre.stores.log.log import AuditLog
from lacre.stores.log.schema import INBOX
from tests.jobs.killing import forked

pytestmark = pytest.mark.any_sqlalchemy


def test_a_fork_waits_for_transactions_of_other_threads(tmp_path: Path) -> None:
    """Forked while a thread is about to commit, a child has the file to itself, and the parent's commit stays."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    within, go_on = threading.Event(), threading.Event()

    def put(number: int) -> None:
        with log.writing() as connection:
            connection.execute(INBOX.insert().values(id=bytes([number]) * 16, entry=b""))
            if number == 1:
                within.set()
                assert go_on.wait(5)

    thread = threading.Thread(target=put, args=(1,))
    thread.start()
    within.wait()
    threading.Timer(0.05, go_on.set).start()
    _, status = os.waitpid(forked(lambda: put(2)), 0)
    thread.join()

    assert status == 0
    with log.reading() as connection:
        assert [row.id[0] for row in connection.execute(INBOX.select())] == [1, 2]
    log.close()


def test_a_fork_within_a_transaction_of_its_own_thread(tmp_path: Path) -> None:
    """Whoever forks within a block of its own does not wait for itself."""
    log = AuditLog(f"sqlite:///{tmp_path}/audit.db")
    log.upgrade()
    with log.reading():
        child = os.fork()
        if not child:
            os._exit(0)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert log.version() == 1
    log.close()
