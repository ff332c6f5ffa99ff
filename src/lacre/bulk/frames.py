# SPDX-License-Identifier: Apache-2.0
"""
Frames between the reading process and the one that asked: one byte of kind, eight of length, the rest.

Does not know what is in one. An end without the frame that says so is no end: whoever reads asks
for a next frame and gets None.
"""

from enum import Enum
from typing import BinaryIO

__all__ = ["Kind", "read_frame", "write_frame"]

_MOST = (
    1 << 34
)  # bytes of one frame: far beyond any batch, far below what would be asked of garbage


class Kind(Enum):
    """What a frame holds."""

    REQUEST = b"R"  # JSON
    SCHEMA = b"S"  # of Arrow
    BATCH = b"B"  # of Arrow
    DONE = b"D"  # JSON
    ERROR = b"E"  # JSON


def write_frame(stream: BinaryIO, kind: Kind, payload: bytes | memoryview) -> None:
    """Write one frame, and send it off."""
    stream.write(kind.value + len(payload).to_bytes(8, "big"))
    stream.write(payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> tuple[Kind, bytes] | None:
    """Return the next frame; None where the stream ends, in the middle of one too, or holds no frame."""
    head = stream.read(9)
    if len(head) < 9:
        return None
    size = int.from_bytes(head[1:], "big")
    try:
        kind = Kind(head[:1])
    except ValueError:
        return None
    if size > _MOST:
        return None
    payload = stream.read(size)
    return (kind, payload) if len(payload) == size else None
