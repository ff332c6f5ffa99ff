# SPDX-License-Identifier: Apache-2.0
"""
What reading every value of a column shows, before anything is changed: whether each comes back
exactly, how large it gets, and which would no longer be unique. Keeps counts and row ids, no value.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from tempfile import SpooledTemporaryFile
from typing import Self

from lacre.errors import InvalidValue
from lacre.fields.codecs import codec_for
from lacre.fields.index import BlindIndex
from lacre.jobs.columns import Refusal
from lacre.jobs.forms import Form, Stored, encrypted_size
from lacre.jobs.sources import ForeignForm

__all__ = ["Rows", "Survey"]

_SHOWN = 5
_LISTED = 1000  # of those that stop a move, the operator has to find each


class Survey:
    """What reading every value of one column showed. A context: what it keeps in files ends with it."""

    def __init__(self, name: str, forms: Sequence[Form], rule: str | None, *, unique: bool) -> None:
        self.name = name
        self.values = self.nulls = self.size = 0
        self._codec = codec_for(forms[0].python_type)
        self._index = BlindIndex(rule) if rule is not None else None
        self._forms = {form: Rows() for form in forms}
        self._unencodable = Rows()
        self._abnormal = Rows()
        self._seen = _Seen() if unique else None
        self._remarks: dict[str, Rows] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._seen is not None:
            self._seen.close()

    @property
    def form(self) -> Form:
        return min(self._forms, key=lambda form: self._forms[form].count)

    def add(self, stored: Stored, row: str) -> None:
        if stored is None:
            self.nulls += 1
            return
        self.values += 1
        value = None
        for form, misfits in self._forms.items():
            try:
                if isinstance(form, ForeignForm):
                    value, remark = form.found(stored)
                    if remark:
                        self._remarks.setdefault(remark, Rows()).add(row)
                else:
                    value = form.load(stored)
            except InvalidValue:
                misfits.add(row)
        if value is None:
            return
        try:
            self.size += encrypted_size(self._codec, value)
        except InvalidValue:
            self._unencodable.add(row)
            return
        if self._index is None:
            return
        self.size += 16
        normalised = None
        try:
            normalised = self._index.normalised(value, self._codec)
        except InvalidValue:
            self._abnormal.add(row)
        if normalised is not None and self._seen is not None:
            self._seen.add(normalised, row)

    def refusals(self) -> Iterator[Refusal]:
        form = self.form
        misfits = self._forms[form]
        if misfits.count and isinstance(form, ForeignForm):
            yield Refusal(
                reason=f"{self.name}: the legacy reader {form.reader.name} does not open {misfits.listed()}",
                hint="look at these rows: another key, another format or a value that was changed; NULL what is lost",
            )
        elif misfits.count:
            kind = form.python_type.__name__ if form.python_type is not dict else "JSON text"
            spelling = " in one and the same spelling" if len(self._forms) > 1 else ""
            yield Refusal(
                reason=f"{self.name}: {misfits} would not come back exactly as a {kind}{spelling}",
                hint="correct these rows first, or declare the column with the type its values have",
            )
        if self._unencodable.count:
            yield Refusal(
                reason=f"{self.name}: {self._unencodable} cannot be encoded",
                hint="see the limits in spec/field-format.md",
            )
        if self._abnormal.count:
            yield Refusal(
                reason=f"{self.name}: the normaliser does not take {self._abnormal}",
                hint="correct these rows, or use another normaliser",
            )
        twice = Rows() if self._seen is None else self._seen.twice()
        if twice.count:
            yield Refusal(
                reason=f"{self.name} is unique, but once normalised {twice} would equal another",
                hint="merge these rows, or use the normaliser `exact`",
            )

    def notices(self) -> Iterator[str]:
        """What is to be told, and stops nothing."""
        form = self.form
        for remark, rows in self._remarks.items():
            yield f"{self.name}: {rows} stood {remark}, and will stand encrypted once"
        if isinstance(form, ForeignForm):
            yield f"{self.name} is read by the legacy reader {form.reader.name}; there is no unprotect of what it read, so keep a backup"
            if not form.reader.authenticated:
                yield f"{self.name}: its format authenticates nothing, so what was changed there may have been read as another value"
            if form.reader.calls:
                calls = form.reader.calls * self.values
                yield f"{self.name}: at least {calls} calls of the key service to fill, and as many to verify; this plan made as many"


class _Seen:
    """
    Finds values that came twice, in memory that does not grow with the table.

    Keyed digests, by their first bits in one of many temporary files, which are then read one by
    one. The key is forgotten with this object, so what a crash leaves of the files tells nothing.
    """

    _FILES = 128
    _IN_MEMORY = 1 << 16

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._files = [SpooledTemporaryFile(self._IN_MEMORY) for _ in range(self._FILES)]  # noqa: SIM115

    def add(self, normalised: bytes, row: str) -> None:
        digest = hashlib.blake2b(normalised, digest_size=16, key=self._key).digest()
        name = row.encode("utf-8", "backslashreplace")[:255]
        self._files[digest[0] % self._FILES].write(digest + bytes([len(name)]) + name)

    def twice(self) -> "Rows":
        """Return the rows whose value an earlier one has."""
        found = Rows()
        for file in self._files:
            file.seek(0)
            seen: set[bytes] = set()
            while digest := file.read(16):
                name = file.read(file.read(1)[0])
                if digest in seen:
                    found.add(name.decode("utf-8", "replace"))
                seen.add(digest)
        return found

    def close(self) -> None:
        """Close, and with that delete, the files."""
        for file in self._files:
            file.close()


class Rows:
    """A count of values, and the first few rows they are in."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def add(self, row: str) -> None:
        self.count += 1
        if len(self._first) < _LISTED:
            self._first.append(row)

    def __str__(self) -> str:
        return self.listed(_SHOWN)

    def listed(self, most: int | None = None) -> str:
        """The count, and up to *most* of the rows; all that are known by default."""
        shown = self._first[:most]
        more = ", ..." if self.count > len(shown) else ""
        return f"{self.count} value{'s' if self.count != 1 else ''} (row{'s' if self.count != 1 else ''} {', '.join(shown)}{more})"
