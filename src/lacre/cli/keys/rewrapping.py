# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys rewrap`: keys under other KMS keys, or under newer versions of them.

What is done and in what order is `lacre.keys.moving`'s; this shows it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lacre.cli.keys.making import take_over
from lacre.cli.operator import Config, Operator, PassphraseFile, as_operator
from lacre.cli.terminal import DUE, data, out, say, shown, talk
from lacre.keys.hierarchy import KeyKind, Scope
from lacre.keys.moving import Left, MovingService, Rewrap, Rewrapped, RewrapPlan, Why

__all__ = ["rewrap", "rewrap_of"]

_UNNAMED, _UNAVAILABLE, _SEALED = 3, 5, 6  # exit codes, as of the errors that say the same


def rewrap(
    class_: str | None = typer.Option(None, "--class", help="of one class only"),
    tenant: str | None = typer.Option(None, help="of one tenant only"),
    from_: str | None = typer.Option(
        None,
        "--from",
        metavar="TEMPLATE",
        help="the kms_keys of before, where nothing runs and lacre.toml has no [move]",
    ),
    anew: bool = typer.Option(
        False,
        "--anew",
        help="also keys of which the service does not tell whether their version is the newest",
    ),
    subjects: bool = typer.Option(
        False,
        "--subjects",
        help="only subject keys that are under an older branch key: what an interrupted rotation left",
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="show what would be done"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
    passphrase_file: Path | None = PassphraseFile,
) -> None:
    """
    Wrap keys anew: under the KMS keys that lacre.toml names now, or newer versions of them.

    No data is touched and no key changes. Run again it does what is left; it exits with 0 where
    nothing is.
    """
    with as_operator(config, passphrase_file, purpose="rewrap", moving_from=from_) as operator:
        if subjects:
            raise typer.Exit(_SEALED if _take_over(operator, tenant, class_) else 0)
        engine = rewrap_of(operator)
        if dry_run:
            plan = engine.plan(tenant=tenant, class_=class_, anew=anew)
            _show_plan(plan, as_json=as_json)
            raise typer.Exit(_exit_code(plan.left))
        with _progress() as advance:
            done = engine.run(tenant=tenant, class_=class_, anew=anew, progress=advance)
    _show(done, as_json=as_json)
    raise typer.Exit(_exit_code(done.left))


def _take_over(operator: Operator, tenant: str | None, class_: str | None) -> int:
    classes = operator.lacre.policy.file.classes
    whose = {
        (each.tenant, each.class_)
        for each in operator.store.subject_keys()
        if tenant in (None, each.tenant)
        and class_ in (None, each.class_)
        and each.class_ in classes
    }
    return take_over(operator, [operator.lacre.scope(*each) for each in sorted(whose)])


def rewrap_of(operator: Operator) -> Rewrap:
    """Return the engine for the application that *operator* opened."""
    lacre = operator.lacre
    ours = lacre.policy.scope(KeyKind.BRANCH, "", "")

    def serves(scope: Scope) -> bool:
        return (scope.app, scope.env, scope.service) == (ours.app, ours.env, ours.service)

    return Rewrap(
        store=operator.store,
        # Every service has the methods; its credential decides which of them work.
        services=cast(Mapping[str, MovingService], lacre.services),
        kms_keys=lacre.policy.kms_keys,
        recorder=lacre.recorder,
        serves=serves,
        concurrent=lacre.policy.file.calls.concurrent,
    )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk, disable=not talk.is_terminal) as progress:
        task = progress.add_task("rewrap", total=None, rate="")

        def advance(done: int, total: int) -> None:
            speed = progress.tasks[0].speed
            rate = "" if speed is None else f"{speed:,.0f} keys/s"
            progress.update(task, completed=done, total=total, rate=rate)

        yield advance


def _show_plan(plan: RewrapPlan, *, as_json: bool) -> None:
    if as_json:
        data(
            {
                "todo": [
                    {"from": before, "to": to, "keys": number}
                    for before, to, number in plan.counted()
                ],
                "current": plan.current,
                "untold": plan.untold,
                "left": _left_data(plan.left),
            }
        )
        return
    for before, to, number in plan.counted():
        out.print(f"{number:>7,}  {before} -> {to}", markup=False)
    say(f"would wrap {len(plan.todo):,} keys anew; {plan.current:,} are as they should be")
    if plan.untold:
        say(f"of {plan.untold:,} nobody tells whether a newer version of the KMS key is there; --anew wraps them too")  # fmt: skip
    _show_left(plan.left)


def _show(done: Rewrapped, *, as_json: bool) -> None:
    if as_json:
        data(
            {
                "moved": done.moved,
                "renewed": done.renewed,
                "checked": done.checked,
                "current": done.current,
                "seconds": round(done.seconds, 3),
                "left": _left_data(done.left),
            }
        )
        return
    number = done.moved + done.renewed
    rate = f", {number / done.seconds:,.0f} keys/s" if number and done.seconds > 0 else ""
    out.print(
        f"rewrapped: {done.moved:,} keys moved, {done.renewed:,} renewed; {done.current:,} were as they should be{rate}"
    )
    if done.checked < number:
        say(f"{number - done.checked:,} new wraps were not opened before they were stored: this credential may not unwrap")  # fmt: skip
    _show_left(done.left)


def _show_left(left: Sequence[Left]) -> None:
    if not left:
        return
    counts = Counter((each.row.parent, str(each.why), each.detail) for each in left)
    for (parent, why, detail), number in sorted(counts.items()):
        told = f"{why}: {detail}" if detail and detail != parent else why
        out.print(f"{number:>7,}  left under {shown(parent)}: {shown(told)}", markup=False)
    hints = {
        Why.UNNAMED: "run `lacre keys pin` for an alias; bring the class back into lacre.toml, or destroy its keys",
        Why.STRANGE: "if that KMS key was yours, name it: [move] from in lacre.toml, or --from where nothing runs; if you do not know it, somebody wrote these rows: look at the audit log",
        Why.SEALED: "these rows open for nobody: compare the key store with the audit log and a backup",
        Why.DENIED: "moving takes the right to unwrap under the old KMS key and to wrap under the new one: the credential that migrates",
        Why.DISABLED: "enable the KMS key while its keys are moved",
        Why.MISSING: "create the KMS key first",
        Why.UNREACHABLE: "bring the key service back, and run the same command again",
        Why.CONTENDED: "run the same command again",
    }
    for why in dict.fromkeys(each.why for each in left):
        if why in hints:
            say(f"next: {hints[why]}")


def _left_data(left: Sequence[Left]) -> list[dict[str, object]]:
    return [
        {
            "key": each.row.key_id.hex(),
            "tenant": each.row.scope.tenant,
            "class": each.row.scope.class_,
            "kind": str(each.row.scope.kind),
            "version": each.row.version,
            "state": str(each.row.state),
            "from": each.row.parent,
            "to": each.to,
            "why": str(each.why),
        }
        for each in left
    ]


def _exit_code(left: Sequence[Left]) -> int:
    why = {each.why for each in left}
    if Why.SEALED in why:
        return _SEALED
    if Why.UNNAMED in why:
        return _UNNAMED
    if why & {Why.DENIED, Why.UNREACHABLE, Why.MISSING, Why.DISABLED}:
        return _UNAVAILABLE
    return DUE if why else 0
