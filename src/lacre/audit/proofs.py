# SPDX-License-Identifier: Apache-2.0
"""
Proofs in files: that an entry is in the log, and that one checkpoint is the beginning of another.

Of an entry as c2sp.org/tlog-proof writes them, with the leaf itself as the extra data. Whoever has
the public text of the log's signer checks one without the log, its database or this library.
Implements ``spec/evidence-log.md``, section 7.3. Reads no database (`lacre.stores.log.proving`).
"""

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lacre._core.merkle import leaf_hash, verify_consistency, verify_inclusion
from lacre.audit.entries import Entry
from lacre.audit.notes import Checkpoint, Verifier, read_checkpoint
from lacre.errors import Tampered

__all__ = [
    "Continued",
    "Proven",
    "check_consistency",
    "check_proof",
    "write_consistency",
    "write_proof",
]

_PROOF = "c2sp.org/tlog-proof@v1"
_CONSISTENCY = "lacre-audit/consistency@v1"
_LONGEST = 96 * 1024 * 1024  # more than Base64 of the longest entry that is sequenced (64 MiB)
_HASH = 32
_PREFIX = "lacre-audit/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """An entry that is in a log: at *index* of it, sequenced at *sequenced* (RFC 3339), as *checkpoint* says."""

    line: bytes
    entry: Entry
    sequenced: str
    index: int
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Continued:
    """Two checkpoints of one log, of which the later continues the earlier."""

    old: Checkpoint
    new: Checkpoint


def write_proof(leaf: bytes, index: int, proof: Sequence[bytes], note: str) -> str:
    """Return the file that proves *leaf* to be leaf *index* of the tree that *note*, a checkpoint, is of."""
    lines = [_PROOF, f"extra {_encoded(leaf)}", f"index {index}", *map(_encoded, proof)]
    return "\n".join(lines) + "\n\n" + note


def check_proof(text: str, signers: Collection[Verifier]) -> Proven:
    """
    Return what *text*, a file of `write_proof`, proves, where one of *signers* signed its checkpoint.

    Raises:
        Tampered: it proves nothing.
    """
    refused = Tampered.signed("the proof")
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if not blank or len(text) > _LONGEST or len(lines) < 3 or lines[0] != _PROOF:
        raise refused
    leaf = _decoded(lines[1].removeprefix("extra "))
    index = _number(lines[2].removeprefix("index "))
    checkpoint = read_checkpoint(note, signers)
    if not lines[1].startswith("extra ") or not lines[2].startswith("index "):
        raise refused
    verify_inclusion(index, checkpoint.size, leaf_hash(leaf), _hashes(lines[3:]), checkpoint.root)
    moment, newline, line = leaf.partition(b"\n")
    if not newline or not checkpoint.origin.startswith(_PREFIX):
        raise refused
    entry = Entry.read(line)
    try:
        sequenced = moment.decode("ascii")
    except UnicodeDecodeError:
        raise refused from None
    return Proven(line=line, entry=entry, sequenced=sequenced, index=index, checkpoint=checkpoint)


def write_consistency(proof: Sequence[bytes], old: str, new: str) -> str:
    """Return the file that proves the checkpoint *old* to be the beginning of *new*, both as notes."""
    lines = [_CONSISTENCY, f"old {_encoded(old.encode())}", f"new {_encoded(new.encode())}"]
    return "\n".join([*lines, *map(_encoded, proof)]) + "\n"


def check_consistency(text: str, signers: Collection[Verifier]) -> Continued:
    """
    Return what *text*, a file of `write_consistency`, proves, where *signers* signed both checkpoints.

    Raises:
        Tampered: it proves nothing.
    """
    refused = Tampered.signed("the proof")
    lines = text.split("\n")
    if len(text) > _LONGEST or len(lines) < 4 or lines[0] != _CONSISTENCY or lines[-1]:
        raise refused
    notes = []
    for line, word in zip(lines[1:3], ("old ", "new "), strict=True):
        try:
            notes.append(_decoded(line.removeprefix(word)).decode())
        except UnicodeDecodeError:
            raise refused from None
        if not line.startswith(word):
            raise refused
    old, new = (read_checkpoint(note, signers) for note in notes)
    if old.origin != new.origin:
        raise refused
    verify_consistency(old.size, new.size, old.root, new.root, _hashes(lines[3:-1]))
    return Continued(old=old, new=new)


def _hashes(lines: Sequence[str]) -> list[bytes]:
    found = [_decoded(line) for line in lines]
    if any(len(each) != _HASH for each in found):
        raise Tampered.signed("the proof")
    return found


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or str(int(text)) != text:
        raise Tampered.signed("the proof")
    return int(text)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # One spelling of the same bytes.
    if not data or _encoded(data) != text:
        raise Tampered.signed("the proof")
    return data
