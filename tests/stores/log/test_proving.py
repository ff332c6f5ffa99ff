# SPDX-License-Identifier: Apache-2.0
"""Proofs in files convince who has the signer's public text and nothing else, and of what they are of only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lacre.audit.proofs import check_consistency, check_proof
from lacre.errors import LacreError, MisuseError, Tampered
from lacre.kms.local import Identity
from lacre.kms.local.signing import verifier_of
from lacre.stores.log.proving import prove_consistency, prove_event
from lacre.stores.log.reader import LogReader
from tests.stores.log.stage import AUDIT, FIRST, Stage, opened

pytestmark = pytest.mark.any_sqlalchemy

SIGNERS = [verifier_of(AUDIT.public)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    made = opened(tmp_path_factory.mktemp("proving"))
    made.look(3)
    made.burst(300)
    made.look(3)
    yield made
    made.close()


def test_an_event_is_proved_by_a_file(stage: Stage) -> None:
    """The file of any event says which entry it is, where it is and when it was sequenced, and is C2SP's."""
    for leaf in list(LogReader(stage.log).after())[::50]:
        text = prove_event(stage.log, leaf.entry.id, SIGNERS)
        proven = check_proof(text, SIGNERS)

        assert text.startswith("c2sp.org/tlog-proof@v1\nextra ")
        assert (proven.entry.members, proven.index) == (leaf.entry.members, leaf.seq)
        assert proven.sequenced.startswith("2026-11-30T23:5")


def test_a_proof_is_of_what_it_is_of(stage: Stage) -> None:
    """Another signer, another index, another leaf, a line more or less: nothing is proved."""
    leaf = list(LogReader(stage.log).after())[5]
    text = prove_event(stage.log, leaf.entry.id, SIGNERS)
    lines = text.split("\n")
    with pytest.raises(Tampered):
        check_proof(text, [verifier_of(Identity.create("svc:audit").public)])
    for number, line in enumerate(lines[:-2]):  # a note may be signed twice
        for other in ([], [line, line], [line.replace("A", "B", 1) + "x"], [line[:-1]]):
            changed = "\n".join([*lines[:number], *other, *lines[number + 1 :]])
            if changed == text or (not line and number == len(lines) - 1):
                continue
            with pytest.raises(LacreError):
                check_proof(changed, SIGNERS)


def test_checkpoints_are_proved_to_continue(stage: Stage) -> None:
    """Each checkpoint of a month is proved to be the beginning of the newest, and not of a forged one."""
    heads = LogReader(stage.log).checkpoints(FIRST)
    for head in heads:
        text = prove_consistency(stage.log, FIRST, head.size, SIGNERS)
        found = check_consistency(text, SIGNERS)

        assert (found.old.size, found.new.size) == (head.size, heads[-1].size)
        with pytest.raises(Tampered):
            check_consistency(text.replace("old ", "new ", 1), SIGNERS)
        with pytest.raises(Tampered):
            check_consistency(text + "AAAA\n", SIGNERS)


def test_what_is_not_there_is_not_proved(stage: Stage) -> None:
    """An unknown event and an unknown checkpoint are said, and a log that was changed gives no proof away."""
    with pytest.raises(MisuseError, match="no such event"):
        prove_event(stage.log, "00" * 16, SIGNERS)
    with pytest.raises(MisuseError, match="32 hex digits"):
        prove_event(stage.log, "x", SIGNERS)
    with pytest.raises(MisuseError, match="no such checkpoints"):
        prove_consistency(stage.log, FIRST, 10**6, SIGNERS)


def test_a_changed_log_proves_nothing(tmp_path: Path, stage: Stage) -> None:
    """Where an entry, or a hash that a proof is made of, was changed, no proof is handed out."""
    leaf = list(LogReader(stage.log).after())[5]
    copy = stage.copy(tmp_path)
    copy.run(f"UPDATE lacre_leaf SET hash = zeroblob(32) WHERE seq = {leaf.seq ^ 1}")

    with pytest.raises(Tampered):
        prove_event(copy.log, leaf.entry.id, SIGNERS)
    copy.close()
