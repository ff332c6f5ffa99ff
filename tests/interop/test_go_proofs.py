# SPDX-License-Identifier: Apache-2.0
"""The second checker of proofs, written in Go from the specifications, takes what lacre writes and nothing else."""

import subprocess
from pathlib import Path

import pytest

from lacre._core.merkle import Frontier, inclusion_proof, leaf_hash
from lacre.audit.notes import Checkpoint, sign_checkpoint
from lacre.audit.proofs import write_proof
from lacre.kms.local import Identity
from lacre.kms.local.signing import IdentitySigner, verifier_of
from tests.audit.test_notes import P256

pytestmark = pytest.mark.any_sqlalchemy

AUDIT = Identity.create("svc:audit")


def proof(index: int, size: int, signer: object) -> str:
    leaves = [f'2026-11-22T10:00:00.000000Z\n{{"n":{number}}}'.encode() for number in range(size)]

    def node(level: int, at: int) -> bytes:
        tree = Frontier()
        tree.extend(map(leaf_hash, leaves[at << level : at + 1 << level]))
        return tree.root()

    tree = Frontier()
    tree.extend(map(leaf_hash, leaves))
    head = Checkpoint(origin="lacre-audit/shop/prod/2026-11", size=size, root=tree.root())
    note = sign_checkpoint(head, signer)  # type: ignore[arg-type]
    return write_proof(leaves[index], index, inclusion_proof(index, size, node), note)


def checked(readers: Path, file: Path, text: str, signer: str) -> subprocess.CompletedProcess[str]:
    file.write_text(text)
    return subprocess.run(
        [readers / "tlogcheck", file, signer], capture_output=True, text=True, check=False
    )


def test_go_takes_what_lacre_proves(readers: Path, tmp_path: Path) -> None:
    """Proofs of trees of many sizes, signed by an identity or a P-256 key, are taken, and the leaf is printed."""
    for signer, verifier in (
        (IdentitySigner(AUDIT), verifier_of(AUDIT.public)),
        (P256, P256.verifier),
    ):
        for size in (1, 2, 7, 8, 33):
            for index in {0, size // 2, size - 1}:
                done = checked(
                    readers, tmp_path / "proof", proof(index, size, signer), verifier.to_text()
                )

                assert (done.returncode, done.stdout) == (
                    0,
                    f'2026-11-22T10:00:00.000000Z\n{{"n":{index}}}\n',
                )


def test_go_refuses_what_was_changed(readers: Path, tmp_path: Path) -> None:
    """Each line changed or left out, and another signer, make the checker refuse."""
    text = proof(5, 33, IdentitySigner(AUDIT))
    signer = verifier_of(AUDIT.public).to_text()
    lines = text.split("\n")
    wrong = [(text, P256.verifier.to_text()), (text, signer.replace("+", "+0", 1))]
    for number, line in enumerate(lines[:-1]):
        wrong.append(("\n".join([*lines[:number], *lines[number + 1 :]]), signer))
        if line:
            wrong.append(("\n".join([*lines[:number], line[:-1], *lines[number + 1 :]]), signer))

    for changed, by in wrong:
        assert checked(readers, tmp_path / "proof", changed, by).returncode == 1
