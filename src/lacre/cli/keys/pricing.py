# SPDX-License-Identifier: Apache-2.0
"""`lacre keys cost`: calls of the key service, and dollars, for a load. The model is `lacre.keys.cost`."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import typer

from lacre.cli.operator import Config, key_store
from lacre.cli.terminal import data, out, say, table
from lacre.keys.cost import AWS_PRICES, Cost, Line, Load, Prices, cost_of
from lacre.policy.model import PolicyFile

__all__ = ["cost"]


def cost(
    tenants: int | None = typer.Option(
        None, min=1, help="whose keys each process uses; all in the key store by default"
    ),
    classes: int | None = typer.Option(None, min=1, help="of each; those of lacre.toml by default"),
    indexed: int | None = typer.Option(
        None, min=0, help="of these searchable; those of lacre.toml by default"
    ),
    processes: int = typer.Option(1, min=1, help="that run at the same time"),
    age: float | None = typer.Option(
        None, min=1, help="of a cached key, in seconds; [cache] age by default"
    ),
    values: float = typer.Option(
        100.0, "--values-per-second", min=0, help="read and written, by all processes"
    ),
    per_10000: float = typer.Option(
        AWS_PRICES.per_10000, "--price-per-10000", min=0, help="dollars for so many calls"
    ),
    per_key: float = typer.Option(
        AWS_PRICES.per_key, "--price-per-key", min=0, help="dollars a month for each KMS key"
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Say how often the key service is asked and what AWS takes for it, beside one call per value."""
    store, policy = key_store(config)
    declared = policy.classes.values()
    if tenants is None:
        tenants = len({row.scope.tenant for row in store.rows()}) or 1
    store.close()
    searchable = sum(each.index is not None for each in declared)
    number = len(declared) if classes is None else classes
    load = Load(
        tenants=tenants,
        classes=number,
        indexed=min(number, searchable if indexed is None else indexed),
        processes=processes,
        age=policy.cache.age if age is None else age,
        values=values,
        kms_keys=len({uri for each in declared for uri in each.named_keys()}),
        rotations=_yearly([each.rotate_after for each in declared]),
        index_rotations=_yearly([each.rotate_index_after for each in declared if each.index]),
    )
    own = (per_10000, per_key) != (AWS_PRICES.per_10000, AWS_PRICES.per_key)
    source = "the prices given" if own else AWS_PRICES.source
    prices = Prices(per_10000=per_10000, per_key=per_key, source=source)
    found = cost_of(load, prices)
    if as_json:
        data({"load": asdict(load), "prices": asdict(prices)} | asdict(found))
        return
    _show(load, prices, found, policy)


def _show(load: Load, prices: Prices, found: Cost, policy: PolicyFile) -> None:
    say(f"load: {load.tenants:,} tenants, {load.classes} classes ({load.indexed} searchable), {load.processes:,} processes, keys cached {load.age:g} s, {load.values:,g} values/s")  # fmt: skip
    rows = [
        ["warm-up of all processes, once", "-", f"{found.warm_up:,}", f"{found.warm_up * prices.per_10000 / 10_000:,.2f}"],
        *(_row(line) for line in (*found.lines, found.total, found.per_value)),
        [f"{load.kms_keys} KMS keys", "-", "-", f"{found.keys:,.2f}"],
    ]  # fmt: skip
    out.print(table(("calls", "#an hour", "#a month", "#dollars a month"), rows))
    if found.total.month:
        times = found.per_value.month / found.total.month
        say(f"one call per value would be {times:,.{0 if times >= 10 else 1}f} times as many calls")
        if times < 1:
            say("every process is counted as using every tenant in each cache period: --tenants is how many it uses, a longer --age asks less often")  # fmt: skip
    say(f"{prices.source}: ${prices.per_10000:g} for 10,000 calls, ${prices.per_key:g} a month for a KMS key")  # fmt: skip
    if "aws-kms" not in policy.schemes():
        say("no KMS key of lacre.toml is in AWS: the calls are the same in OpenBao, the dollars are not")  # fmt: skip


def _row(line: Line) -> list[str]:
    return [line.name, f"{line.hour:,.1f}", f"{line.month:,.0f}", f"{line.dollars:,.2f}"]


def _yearly(periods: Sequence[dt.timedelta | None]) -> float:
    # The mean over the classes; what is never rotated counts as none.
    rates = [0.0 if each is None else dt.timedelta(days=365) / each for each in periods]
    return sum(rates) / len(rates) if rates else 0.0
