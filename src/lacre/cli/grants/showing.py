# SPDX-License-Identifier: Apache-2.0
"""`lacre grant list` and `show`: what was asked for, who approved, and where it stands. Changes nothing."""

from collections.abc import Sequence
from pathlib import Path

import typer

from lacre.cli.grants.opening import Kept, keeping
from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import DUE, data, out, say, table, warn
from lacre.policy.grants.judging import Judged, Standing
from lacre.policy.grants.request import GrantRecord

__all__ = ["described", "list_grants", "show"]

_LIVING = (Standing.REQUESTED, Standing.APPROVED, Standing.AHEAD, Standing.IN_EFFECT)


def list_grants(
    every: bool = typer.Option(False, "--all", help="those that are over too"),
    check: bool = typer.Option(False, "--check", help="exit with 10 where a review is overdue"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """List grants, and where each stands. Reviews of break-glass that are overdue are named."""
    store, policy = key_store(config)
    try:
        with keeping(store, policy, config.resolve().parent) as kept:
            judged = [(record, kept.judge(record)) for record in kept.records()]
            late = [record for record, each in judged if _late(each, kept)]
            some = [(r, j) for r, j in judged if every or j.standing in _LIVING or r in late]
            if as_json:
                data([_data(record, each, kept) for record, each in some])
            elif some:
                out.print(table(("grant", "standing", "for", "class", "right", "purpose", "until", "approved by"), [_row(*each) for each in some]))  # fmt: skip
            else:
                say("no grants")
    finally:
        store.close()
    for record in late:
        warn(f"break-glass {record.request.id[:12]} was not reviewed in time (`lacre grant review`)")  # fmt: skip
    if check and late:
        raise typer.Exit(DUE)


def show(
    grant: str = typer.Argument(..., metavar="ID", help="the grant's, or its beginning"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Show one grant: what was asked, what it does at the key service, and every act about it."""
    store, policy = key_store(config)
    try:
        with keeping(store, policy, config.resolve().parent) as kept:
            record = kept.one(grant)
            judged = kept.judge(record)
            if as_json:
                data(_data(record, judged, kept))
                return
    finally:
        store.close()
    out.print(table(("grant", ""), described(record, judged)))
    if record.acts:
        rows = [[each.at, str(each.act), each.name, each.note] for each in record.acts]
        out.print(table(("when", "what", "who says so", "note"), rows))


def described(record: GrantRecord, judged: Judged) -> Sequence[Sequence[str]]:
    """Return what a person has to see of a grant before they sign, a line each."""
    request = record.request
    return [
        ["id", request.id],
        ["standing", str(judged.standing) + (f": {judged.why}" if judged.why else "")],
        ["for", request.beneficiary],
        ["right", f"{request.right} {request.class_} for {request.purpose}"],
        ["tenant", request.tenant or "every tenant"],
        ["from", request.not_before],
        ["until", request.until],
        ["asked by", f"{request.requester}, {request.requested}: {request.reason}"],
        ["approved by", f"{', '.join(judged.approvers) or 'nobody'} (of {judged.needed}, until {request.approve_by})"],
        ["break-glass", "yes: to be reviewed" if request.break_glass else "no"],
        ["key service", request.change or "nothing is changed there"],
        ["sha256 of that", request.change_digest],
        ["policy", request.policy],
    ]  # fmt: skip


def _row(record: GrantRecord, judged: Judged) -> Sequence[str]:
    request = record.request
    by = ", ".join(judged.approvers) or f"0 of {judged.needed}"
    return [request.id[:12], str(judged.standing), request.beneficiary, request.class_, request.right, request.purpose, request.until, by]  # fmt: skip


def _late(judged: Judged, kept: Kept) -> bool:
    return judged.overdue and judged.review_due is not None and kept.now >= judged.review_due


def _data(record: GrantRecord, judged: Judged, kept: Kept) -> dict[str, object]:
    request = record.request
    return {
        "grant": request.id,
        "standing": str(judged.standing),
        "why": judged.why or None,
        "for": request.beneficiary,
        "class": request.class_,
        "right": request.right,
        "purpose": request.purpose,
        "tenant": request.tenant or None,
        "not_before": request.not_before,
        "until": request.until,
        "requested_by": request.requester,
        "reason": request.reason,
        "approve_by": request.approve_by,
        "approvers": list(judged.approvers),
        "executed": judged.executed or None,
        "break_glass": request.break_glass,
        "reviewer": judged.reviewer or None,
        "review_overdue": _late(judged, kept),
        "change": request.change or None,
        "policy": request.policy,
        "acts": [
            {"act": str(e.act), "who": e.name, "at": e.at, "note": e.note} for e in record.acts
        ],
    }
