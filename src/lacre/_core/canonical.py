# SPDX-License-Identifier: Apache-2.0
"""
One byte string for one map of strings: the AWS Encryption SDK's context serialisation.

Implements ``spec/field-format.md``, section "Canonical maps". Does not normalise Unicode, does
not read maps back, and knows no key's meaning except those of a field context.
"""

from collections.abc import Mapping

from lacre.errors import MisuseError

__all__ = ["FieldPlace", "canonical"]


def canonical(pairs: Mapping[str, str]) -> bytes:
    """
    Serialise *pairs*: ``u16 count || (u16 length || key || u16 length || value)*``.

    Sorted by the key's UTF-8 bytes, so one map has one serialisation; length-prefixed, so two
    maps never share one. An empty map is refused: the AWS Encryption SDK writes it as zero
    bytes, without a count, and nothing here is ever bound to nothing.

    Raises:
        MisuseError: empty map, a key or value that is not a string, or longer than 65535 bytes.
    """
    if not pairs or len(pairs) > 0xFFFF:
        raise MisuseError("a canonical map has 1 to 65535 pairs")
    encoded = sorted((_utf8(key), _utf8(value)) for key, value in pairs.items())
    parts = [len(encoded).to_bytes(2, "big")]
    for key, value in encoded:
        parts += (_prefixed(key), _prefixed(value))
    return b"".join(parts)


class FieldPlace:
    """
    The field context of every value of one column and tenant, waiting for its row.

    `at(row)` equals `canonical` of the six pairs ``column, row, store, table, tenant, type``;
    only the row is serialised on each call.
    """

    __slots__ = ("_after", "_before")

    def __init__(self, *, column: str, store: str, table: str, tenant: str, type: str) -> None:  # noqa: A002
        whole = canonical(
            {
                "column": column,
                "row": "",
                "store": store,
                "table": table,
                "tenant": tenant,
                "type": type,
            }
        )
        # "column" sorts first, "row" second: the hole is after count, the column pair and row's key.
        hole = 2 + 2 + 6 + 2 + len(_utf8(column)) + 2 + 3
        self._before, self._after = whole[:hole], whole[hole + 2 :]

    def at(self, row: str) -> bytes:
        text = _utf8(row)
        size = len(text)
        if not 0 < size <= 0xFFFF:
            raise MisuseError("a row id is 1 to 65535 bytes of text")
        return b"".join((self._before, size.to_bytes(2, "big"), text, self._after))


def _utf8(text: str) -> bytes:
    if not isinstance(text, str):
        raise MisuseError("a canonical map holds strings only")
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Not `from` the codec's error, which quotes the text.
        raise MisuseError("a canonical map holds valid Unicode only") from None


def _prefixed(part: bytes) -> bytes:
    if len(part) > 0xFFFF:
        raise MisuseError("a part of a canonical map is at most 65535 bytes")
    return len(part).to_bytes(2, "big") + part
