# SPDX-License-Identifier: Apache-2.0
"""
The fields page: each column's class, state and deadline, and which keys its values are under.

States are signed rows of the key store; values are counted only where a database was named.
"""

from collections import Counter
from dataclasses import dataclass

from markupsafe import Markup

from lacre.dashboard.plots import Part, share_bar
from lacre.dashboard.rendering import Asked, Shown
from lacre.dashboard.sources import Sources
from lacre.fields.column_state import ColumnState
from lacre.jobs.coverage import Coverage, Standing

__all__ = ["show"]

_KINDS = {
    Standing.ACTIVE: "good",
    Standing.OLDER: "compliant",
    Standing.COMPROMISED: "failed",
    Standing.UNUSABLE: "prevented",
    Standing.UNKNOWN: "other",
    Standing.PLAINTEXT: "2",
    Standing.ERASED: "4",
    Standing.ELSEWHERE: "empty",
}
_WORDS = {
    Standing.ACTIVE: "under the active key",
    Standing.OLDER: "under an older key",
    Standing.COMPROMISED: "under a compromised key",
    Standing.UNUSABLE: "under a key that does not open",
    Standing.UNKNOWN: "under an unknown key",
    Standing.PLAINTEXT: "not encrypted",
    Standing.ERASED: "erased",
    Standing.ELSEWHERE: "of another tenant",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Covered:
    column: str
    class_: str
    values: int
    percent: str
    bar: Markup
    parts: list[tuple[str, int]]


def show(sources: Sources, _: Asked) -> Shown:
    """Show the columns, and their coverage where it is counted."""
    columns, wrong = sources.columns()
    columns.sort(key=lambda each: (each.done, each.days_left is None, each.days_left or 0, str(each)))  # fmt: skip
    states = Counter("none" if each.state is None else str(each.state) for each in columns)
    order = ["encrypted", "dual", "plaintext", "none"]
    kinds = dict(zip(order, ("good", "prevented", "failed", "other"), strict=True))
    bar = share_bar(
        "Columns by state",
        [Part(name=name, kind=kinds[name], value=states[name]) for name in order],
    )
    counted = None if sources.coverage is None else sources.coverage.last
    return Shown(
        template="fields.html",
        context={
            "columns": columns,
            "wrong": wrong,
            "states": [(name, kinds[name], states[name]) for name in order if states[name]],
            "bar": bar,
            "encrypted": ColumnState.ENCRYPTED,
            "counting": sources.coverage,
            "counted": counted,
            "covered": [] if counted is None else [_covered(each) for each in counted.found],
            "classes": sources.policy.file.classes,
        },
    )


def _covered(found: Coverage) -> _Covered:
    parts = [(each, found.of(each)) for each in Standing]
    return _Covered(
        column=f"{found.table}.{found.column}",
        class_=found.scheme.class_,
        values=found.values,
        # Rounded down: what is called whole is whole.
        percent=f"{int(found.share * 1000) / 10:g} %",
        bar=share_bar(
            f"Values of {found.table}.{found.column}",
            [Part(name=_WORDS[each], kind=_KINDS[each], value=value) for each, value in parts],
        ),
        parts=[(_WORDS[each], value) for each, value in parts if value],
    )
