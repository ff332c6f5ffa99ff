# SPDX-License-Identifier: Apache-2.0
"""`lacre audit prove` and `lacre audit check`: proofs in files, and their check without any log."""

import json
import os
from pathlib import Path

import typer

from lacre.audit.leaves import shard_name
from lacre.audit.proofs import check_consistency, check_proof
from lacre.cli.operator import Config
from lacre.cli.terminal import data, out, say, warn
from lacre.errors import ConfigurationError, Tampered
from lacre.kms.signing import believed, read_verifier
from lacre.policy.loading import load_policy
from lacre.stores.log.opening import open_log

__all__ = ["check", "month", "prove"]

_WRONG = 6


def prove(
    event: str = typer.Option("", "--event", help="the id of an event, 32 hex digits"),
    from_size: int = typer.Option(
        0,
        "--from",
        min=0,
        help="instead: the size of an earlier checkpoint, to prove that the newest continues it",
    ),
    shard: str = typer.Option("", "--month", help="of that checkpoint, 2026-11"),
    file: Path = typer.Option(..., "--out", help="where the proof goes; must not exist"),
    config: Path = Config,
) -> None:
    """Write a file that proves an event to be in the log, or a checkpoint to be the beginning of the newest."""  # fmt: skip
    from lacre.stores.log.proving import prove_consistency, prove_event

    if bool(event) == bool(from_size) or bool(from_size) != bool(shard):
        raise ConfigurationError(
            "an event is proved, or a checkpoint", hint="--event ID, or --month 2026-11 --from SIZE"
        )
    if file.exists():
        raise ConfigurationError(f"{file} exists already", hint="--out names a new file")
    settings = load_policy(config, os.environ)
    log = open_log(settings, config.resolve().parent)
    try:
        signers = believed(settings)
        made = (
            prove_event(log, event, signers)
            if event
            else prove_consistency(log, month(shard), from_size, signers)
        )
    finally:
        log.close()
    file.touch(mode=0o600)
    file.write_text(made, "utf-8")
    out.print(str(file), markup=False)
    say("`lacre audit check` verifies it with nothing but this file and the signer's public text")


def check(
    file: Path = typer.Argument(..., help="what `lacre audit prove` wrote"),
    signer: list[str] = typer.Option(
        ...,
        "--signer",
        help="the public text of who signs the log, or a file that holds it; repeatable",
    ),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
) -> None:
    """Check a proof offline: without the log, a database or lacre.toml. Exits 6 where it proves nothing."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read ({type(error).__name__})") from None
    signers = [read_verifier(_text_of(each)) for each in signer]
    try:
        if text.startswith("lacre-audit/consistency"):
            found = check_consistency(text, signers)
            if as_json:
                data({"origin": found.old.origin, "old": found.old.size, "new": found.new.size})
                return
            out.print(f"{found.old.origin}: the first {found.old.size} of {found.new.size} leaves are those that were signed before", markup=False)  # fmt: skip
            return
        proven = check_proof(text, signers)
    except Tampered:
        warn(f"{file} proves nothing: it was changed, or none of the signers signed it")
        raise typer.Exit(_WRONG) from None
    if as_json:
        data(
            {
                "origin": proven.checkpoint.origin,
                "index": proven.index,
                "size": proven.checkpoint.size,
                "sequenced": proven.sequenced,
                "entry": dict(proven.entry.members),
            }
        )
        return
    say(
        f"in {proven.checkpoint.origin}, leaf {proven.index} of {proven.checkpoint.size}, sequenced at {proven.sequenced}:"
    )
    out.print(json.dumps(dict(proven.entry.members), indent=2, sort_keys=True), markup=False)


def month(text: str) -> int:
    """Return the shard that *text* names, 2026-11."""
    year, dash, number = text.partition("-")
    found = int(year) * 100 + int(number) if dash and year.isdecimal() and number.isdecimal() else 0
    if not found or shard_name(found) != text:
        raise ConfigurationError("a month of the log is named as 2026-11")
    return found


def _text_of(signer: str) -> str:
    # No public text is the name of a file that anybody has.
    path = Path(signer)
    try:
        return path.read_text("utf-8").strip() if len(signer) < 200 and path.is_file() else signer
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{signer} cannot be read ({type(error).__name__})") from None
