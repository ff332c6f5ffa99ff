# SPDX-License-Identifier: Apache-2.0
"""
Entries that are alike: the same bytes but for what differs from one to the next.

A verification reads millions of entries, and most say what another said, with another id, moment,
number, correlation or row. Such an entry is not parsed again: what is around those five is the key
of what was found when an entry with the same bytes there was parsed, and the five themselves are
compared with the columns beside the entry. Says only that all is right with a leaf, never what is wrong:
where anything is otherwise, `lacre.audit.verification` reads the entry as any other.
Implements ``spec/evidence-log.md``, section 8.1.
"""

from dataclasses import dataclass
from typing import Any, final

from lacre.audit.comparing import StoredLeaf
from lacre.audit.entries import Entry
from lacre.audit.leaves import LONGEST, Drawn, written_moment
from lacre.audit.summing import tally_key
from lacre.errors import Tampered

__all__ = ["Alike", "alike"]

# What entries of the log itself and of openings say is followed one by one.
_FOLLOWED = frozenset(
    {"sequencing", "explanation", "retention", "anchor", "opening", "closing", "recording"}
)
_SECOND = 1_000_000
_TOUCHED = 64  # characters of a resource that stand in their column as they are

# What an entry is parsed with in place of what differs: none is in the bytes around them, or it is not alike.
_CORRELATION, _ID, _NUMBER = "c" * 31 + "1", "1d" * 16, "7130519"
_ABOUT, _TIME = "r" * 31 + "1", "2001-02-03T04:05:06.070809Z"

_Pieces = tuple[str, str, str, str, str, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alike:
    """
    What entries with the same bytes around what differs have in common.

    *columns* are those from the action to the place, *touched* what they are about where that does
    not differ, *tally* what they are counted under but for the hour.
    """

    columns: tuple[str, ...]
    count: int
    touched: tuple[str, ...]
    tally: tuple[str, str, str, str, str, str]
    whose: tuple[str, str]
    writer: str | None


# Bounded, and begun anew when full: whoever writes the log chooses what is in it.
_KNOWN: dict[_Pieces, Alike | None] = {}
_KNOWN_KEPT = 20_000
_SEEN: set[int] = set()  # pieces that one entry had: parsing them pays where a second has them
_SEEN_KEPT = 100_000
_MOMENTS: dict[int, str] = {}
_MOMENTS_KEPT = 10_000


def alike(leaf: StoredLeaf) -> tuple[Alike, str, str] | None:
    """
    Return what *leaf*'s entry has in common with others, its number, and the row or subject that it is about.

    None unless the catalogue has the entry, and each column beside it is what is drawn from it.
    """
    time = leaf[3]
    try:
        text = leaf[14].decode("ascii")
    except UnicodeDecodeError:
        return None
    find = text.find
    # A text ends at its first quote only if no quote is escaped. What a search does not find leaves
    # a place that no later search finds anything from, and the moment is one that has to be found.
    if find("\\") >= 0:
        return None
    begin, before = find('"correlation":"') + 15, ""
    end = 0
    if begin > 14:
        end = find('"', begin)
        before = text[:begin]
    correlation = text[begin:end] if before else ""
    id_at = find('"id":"', end) + 6
    id_end = id_at + 32
    before_id = text[end:id_at]
    number_at, before_number, number = find('"number":', id_end) + 9, "", ""
    end = id_end
    if number_at > 8:
        before_number = text[end:number_at]
        end = find(",", number_at)
        number = text[number_at:end]
    about_at, before_about, about = find('"rows":["', end) + 9, "", ""
    if about_at == 8:
        about_at = find('"subjects":["', end) + 13
    if about_at > 12:
        before_about = text[end:about_at]
        end = find('"', about_at)
        about = text[about_at:end]
    time_at = find('"time":"', end) + 8
    time_end = time_at + 27
    if id_at < 6 or end < 0 or time_at < 8:
        return None
    pieces = (before, before_id, before_number, before_about, text[end:time_at], text[time_end:])
    same = _KNOWN.get(pieces)
    if same is None:
        same = _common(pieces)
        if same is None:
            return None
    second = _MOMENTS.get(time // _SECOND)
    if second is None:
        second = _moment(time)
    if (
        # The moment is compared as it is written: reading it takes longer.
        f"{second}{time % _SECOND:06}Z" == text[time_at:time_end]
        and leaf[2].hex() == text[id_at:id_end]
        and leaf[4:11] == same.columns
        and leaf[12] == same.count
        and correlation == leaf[11]
        and (not before or (correlation.isalnum() and len(correlation) <= LONGEST))
        and (not before_about or (about.isprintable() and 0 < len(about) <= _TOUCHED))
    ):
        return same, number, about
    return None


def _common(pieces: _Pieces) -> Alike | None:
    if pieces in _KNOWN:
        return None
    hashed = hash(pieces)
    if hashed not in _SEEN:
        if len(_SEEN) >= _SEEN_KEPT:
            _SEEN.clear()
        _SEEN.add(hashed)
        return None
    if len(_KNOWN) >= _KNOWN_KEPT:
        _KNOWN.clear()
    found = _KNOWN[pieces] = _parsed(pieces)
    return found


def _parsed(pieces: _Pieces) -> Alike | None:
    # Each of what differs is the value of its member, and no part of another: so in any other entry with
    # these pieces it is, if it is a text without quotes, backslashes and control characters, or a number.
    correlation, number, about = (
        put if piece else ""
        for put, piece in zip(
            (_CORRELATION, _NUMBER, _ABOUT), (pieces[0], *pieces[2:4]), strict=True
        )
    )
    put = (correlation, _ID, number, about, _TIME)
    line = "".join(part for both in zip(pieces, (*put, ""), strict=True) for part in both)
    if any(line.count(each) != 1 for each in put if each):
        return None
    try:
        entry = Entry.read(line.encode())
        drawn = Drawn.of(entry)
    except Tampered:
        return None
    members = entry.members
    writer = members.get("writer")
    if (
        members["id"] != _ID
        or members["time"] != _TIME
        or members.get("correlation", "") != correlation
        or members.get("number", "") != (int(number) if number else "")
        or members["action"] in _FOLLOWED
        or (type(writer) is not str if number else writer is not None)
        or (about and drawn.touched != (about,))
        or (about and [about] not in (members.get("rows"), members.get("subjects")))
    ):
        return None
    return Alike(
        columns=(drawn.action, drawn.step, str(drawn.status), drawn.principal, drawn.tenant, drawn.class_, drawn.place),
        count=drawn.count,
        touched=() if about else drawn.touched,
        tally=tally_key(drawn)[1:],
        whose=_whose(members),
        writer=writer,
    )  # fmt: skip


def _whose(members: Any) -> tuple[str, str]:
    return members["app"], members["env"]


def _moment(time: int) -> str:
    try:
        text = written_moment(time)[:20]
    except OverflowError:
        return ""  # a moment that no entry says
    if len(_MOMENTS) >= _MOMENTS_KEPT:
        _MOMENTS.clear()
    _MOMENTS[time // _SECOND] = text
    return text
