# SPDX-License-Identifier: Apache-2.0
"""One service object serves many threads, and the child of a fork as well as its parent."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kms.contract.rig import Credential, Rig, context


def test_fifty_threads_at_once(rig: Rig) -> None:
    """Fifty threads that mint and unwrap through one object each get their own keys, and the right ones."""
    kms_key = rig.kms_key()
    minting, running = rig.open(Credential.MINTS), rig.open(Credential.RUNS)

    def worked(number: int) -> tuple[bytes, bytes]:
        pairs = context(kms_key, key=number)
        blob = minting.mint(kms_key, pairs)
        return (
            running.unwrap(kms_key, blob, pairs).reveal(),
            running.unwrap(kms_key, blob, pairs).reveal(),
        )

    with ThreadPoolExecutor(50) as pool:
        keys = list(pool.map(worked, range(1, 101)))

    assert len({first for first, _ in keys}) == 100
    assert all(first == second for first, second in keys)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_parent_and_child_of_a_fork_both_work(rig: Rig) -> None:
    """After a fork that came between two calls, the parent and its child unwrap, at the same time."""
    kms_key = rig.kms_key()
    pairs = context(kms_key)
    blob = rig.open(Credential.MINTS).mint(kms_key, pairs)
    service = rig.open(Credential.RUNS)
    key = service.unwrap(kms_key, blob, pairs).reveal()
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            # Nothing of pytest may run here: the verdict is the exit status.
            right = False
            try:
                right = all(service.unwrap(kms_key, blob, pairs).reveal() == key for _ in range(10))
            finally:
                os._exit(0 if right else 1)
        children.append(child)
    mine = [service.unwrap(kms_key, blob, pairs).reveal() for _ in range(10)]
    ended = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

    assert mine == [key] * 10
    assert ended == [0, 0]
