# SPDX-License-Identifier: Apache-2.0
"""
How fast `lacre keys rewrap` moves a key store of many branch keys into a local OpenBao.

The keys are under the local keystore; the run is stopped half way and gone on with. Each new wrap
is opened and compared before it is stored, so a key costs two calls. Does not measure a server
that is elsewhere: there the time is the network's, shared by `[calls] concurrent` calls.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from lacre import Lacre
from lacre.cli.initialise import initialise
from lacre.keys.hierarchy import KeyKind, KeyRow, KeyState
from lacre.keys.moving import MovingService, Rewrap
from tests.components.openbao import OpenBao, openbao_server

__all__ = ["Figures", "measured"]

_LINE = 'kms_keys = "local://{class}-{use}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """*keys* were moved in *seconds*, in two runs; *first* of them before it was stopped."""

    keys: int
    first: int
    seconds: float
    calls: int

    @property
    def rate(self) -> float:
        """Return keys a second."""
        return self.keys / self.seconds


class Stopped(Exception):
    """The first run is stopped as by a signal."""


def measured(directory: Path, server: OpenBao, *, keys: int) -> Figures:
    """Make a key store of *keys* branch keys in *directory*, and move it."""
    initialise(directory, env="test")
    _provision(directory, keys)
    mount = server.transit()
    for name in ("pii", "banking", "payment", "credentials"):
        for use in ("fields", "index"):
            server.key(mount, f"{name}-{use}")
    token = directory / "lacre" / "identities" / "token"  # a folder that is ours alone
    token.write_text(server.root_token)
    token.chmod(0o600)
    config = directory / "lacre.toml"
    config.write_text(
        config.read_text().replace(_LINE, f'kms_keys = "openbao://{mount}/{{class}}-{{use}}"')
        + f'\n[openbao]\naddress = "{server.address}"\nca_file = "{server.ca_file}"\nauth = "token"\ntoken_file = "lacre/identities/token"\n'
    )
    first, mark = 0, server.mark()

    def stop_half_way(done: int, total: int) -> None:
        nonlocal first
        first = done
        if done >= total / 2:
            raise Stopped

    seconds = 0.0
    for stops in (True, False):
        with _opened(directory) as lacre:
            rewrap = Rewrap(
                store=lacre.store,  # type: ignore[arg-type]
                services=cast(Mapping[str, MovingService], lacre.services),
                kms_keys=lacre.policy.kms_keys,
                recorder=lacre.recorder,
                concurrent=lacre.policy.file.calls.concurrent,
            )
            started = time.perf_counter()
            try:
                if stops:
                    rewrap.run(progress=stop_half_way)
                else:
                    rest = rewrap.run()
            except Stopped:
                pass
            seconds += time.perf_counter() - started
    if rest.left or first + rest.moved < keys:
        raise SystemExit(f"not every key was moved: {rest.moved} after {first}, {len(rest.left)} left")  # fmt: skip
    calls = sum(server.calls(f"{mount}/", since=mark).values())
    return Figures(keys=first + rest.moved, first=first, seconds=seconds, calls=calls)


@contextmanager
def _opened(directory: Path) -> Iterator[Lacre]:
    lacre = Lacre.load(
        directory / "lacre.toml", environ={}, identity="lacre/identities/operator.key",
        moving_from="local://{class}-{use}",
    )  # fmt: skip
    with (
        lacre,
        lacre.acting_as("operator", roles={"operator"}, purpose="rewrap", across_yield=True),
    ):
        yield lacre


def _provision(directory: Path, keys: int) -> None:
    # Straight into the key store, in one transaction: `lacre keys create` for each tenant would
    # take longer than what is measured.
    with Lacre.load(directory / "lacre.toml", environ={}, identity="lacre/identities/operator.key") as lacre:  # fmt: skip
        service, rows = lacre.services["local"], []
        for number in range(keys):
            scope = lacre.scope(f"tenant-{number}", "pii", KeyKind.BRANCH)
            kms_key = lacre.policy.kms_key(scope)
            row = KeyRow(
                key_id=os.urandom(16), scope=scope, version=1, parent=kms_key, suite=1,
                created="2026-01-01T00:00:00Z", keystore=lacre.store.keystore_id, wrapped=None,
                state=KeyState.ACTIVE, revision=2, changed="2026-01-01T00:00:00Z", mac=None,
            )  # fmt: skip
            wrapped = service.mint(kms_key, row.wrap_context())
            row = replace(row, wrapped=wrapped).sealed(service.unwrap(kms_key, wrapped, row.wrap_context()))  # fmt: skip
            rows.append(row)
        lacre.store.change(add=rows)


def main() -> None:
    """Print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keys", type=int, default=10_000)
    keys = arguments.parse_args().keys
    with openbao_server() as server, tempfile.TemporaryDirectory() as place:
        found = measured(Path(place) / "lacre", server, keys=keys)
    print(f"{found.keys:,} keys in {found.seconds:.1f} s: {found.rate:,.0f} keys/s")
    print(f"stopped after {found.first:,} and gone on with; {found.calls / found.keys:.2f} calls of OpenBao a key")  # fmt: skip


if __name__ == "__main__":
    main()
