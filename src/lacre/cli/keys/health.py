# SPDX-License-Identifier: Apache-2.0
"""
`lacre keys status`: how each KMS key is, as its key service tells, and what needs attention.

Asks with the application's credential, or another that the environment names. Does not unwrap.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import typer

from lacre.application import Lacre
from lacre.cli.operator import Config
from lacre.cli.terminal import DUE, data, out, say
from lacre.errors import ConfigurationError, KeyUnavailable, LacreError, Tampered
from lacre.keys.hierarchy import KeyKind
from lacre.keys.kms_keys import expanded, is_alias, pinned, scheme_of
from lacre.keys.ports import KmsKeyAdministration, KmsKeyStatus
from lacre.keys.resolver import service_of
from lacre.policy.loading import LOCK, load_pins
from lacre.stores.log.opening import open_log
from lacre.stores.log.reader import Filters, LogReader
from lacre.stores.sql import SQLKeyStore

__all__ = ["status"]

_TAIL = 16 * 1024 * 1024  # bytes of the audit log that are looked through, from its end
_LEAVE = "the audit log"  # where a time of use comes from, unless the service itself tells
_USES = {
    "fields": frozenset({"look", "encrypt"}),
    "index": frozenset({"search", "encrypt"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """Something that is not as it should be, and the next step."""

    what: str
    do: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A KMS key as lacre.toml names it. *before* is one that keys are moved from."""

    uri: str
    class_: str
    use: str
    before: bool = False


def status(
    class_: str | None = typer.Option(None, "--class", help="of one class only"),
    as_json: bool = typer.Option(False, "--json", help="for a program to read"),
    config: Path = Config,
) -> None:
    """Say how the KMS keys are: rotation, deletion, aliases, policy. Exits 10 where something needs attention."""
    with Lacre.load(config) as lacre:
        if class_ is not None:
            lacre.policy.class_(class_)
        named = [each for each in _named(lacre) if class_ in (None, each.class_)]
        pins = load_pins(config)
        kept = Counter(
            row.parent
            for row in cast(SQLKeyStore, lacre.store).rows()
            if row.scope.kind.under_kms and row.wrapped is not None
        )
        used = _uses(lacre)
        found = [_described(lacre, uri, named, pins, kept, used) for uri in dict.fromkeys(each.uri for each in named)]  # fmt: skip
    if as_json:
        data(found)
    else:
        for each in found:
            _show(each)
    steps = [step for each in found for step in cast(list[dict[str, str]], each["attention"])]
    for step in dict.fromkeys(step["do"] for step in steps):
        say(f"next: {step}")
    if steps:
        raise typer.Exit(DUE)
    say(f"{len(found)} KMS keys, nothing needs attention")


def _named(lacre: Lacre) -> Iterator[Named]:
    file = lacre.policy.file
    for name, declared in file.classes.items():
        for use, uri in (("fields", declared.fields), ("index", declared.index)):
            if uri is None:
                continue
            yield Named(uri=uri, class_=name, use=use)
            if file.move is not None:
                yield Named(uri=expanded(file.move.from_, class_=name, use=use), class_=name, use=use, before=True)  # fmt: skip


def _described(
    lacre: Lacre,
    uri: str,
    named: Sequence[Named],
    pins: Mapping[str, str],
    kept: Mapping[str, int],
    used: Mapping[tuple[str, str], str],
) -> dict[str, object]:
    mine = [each for each in named if each.uri == uri]
    attention: list[Attention] = []
    told: KmsKeyStatus | None = None
    key = uri
    try:
        key = pinned(uri, pins)
        service = cast(KmsKeyAdministration, service_of(lacre.services, key))
        told = service.status(key)
        attention += _of(told, mine)
        if is_alias(uri):
            now = service.status(uri).points_to
            if now is not None and now != key:
                attention.append(Attention(what=f"the alias was moved: it stands for {now}, and {LOCK} says {key}", do="find out who moved the alias; `lacre keys pin` shows both"))  # fmt: skip
    except ConfigurationError as error:
        attention.append(Attention(what=str(error), do=error.hint or "correct lacre.toml"))
    except (KeyUnavailable, Tampered) as error:
        attention.append(Attention(what=_text(error), do=error.hint or "look at the key service's own log"))  # fmt: skip
    if all(each.before for each in mine) and kept.get(key):
        attention.append(Attention(what=f"{kept[key]} keys are still under it, and lacre.toml moves them", do="lacre keys rewrap"))  # fmt: skip
    last, source = (told.last_use, "the key service") if told and told.last_use else (None, _LEAVE)
    if last is None:
        times = [used[each.class_, each.use] for each in mine if (each.class_, each.use) in used]
        last = max(times, default=None)
    return {
        "kms_key": key,
        "alias": uri if uri != key else None,
        "classes": sorted({f"{each.class_} {each.use}" for each in mine}),
        "keys": kept.get(key, 0),
        **({} if told is None else {n: v for n, v in asdict(told).items() if n not in ("kms_key", "points_to", "last_use")}),
        "last_use": last,
        "last_use_from": None if last is None else source,
        "attention": [asdict(each) for each in attention],
    }  # fmt: skip


def _of(told: KmsKeyStatus, mine: Sequence[Named]) -> Iterator[Attention]:
    key = told.kms_key
    remote = scheme_of(key) != "local"
    if not told.usable:
        yield Attention(what=f"it is {told.state}", do=f"enable {key} in its key service")
    if told.deletion is not None and told.deletion[:1].isdigit():
        yield Attention(what=f"it will be deleted on {told.deletion}, and what is under it with it", do=f"cancel the deletion of {key}, or move its keys first: lacre keys rewrap")  # fmt: skip
    elif told.deletion is not None:
        yield Attention(what=f"its deletion is {told.deletion}", do=f"forbid the deletion of {key} in its key service")  # fmt: skip
    # The local keystore rotates nothing by itself: `lacre keys due` is about that.
    if remote and told.usable and told.rotation is None:
        yield Attention(what="it does not rotate by itself", do=f"turn its rotation on, or run `lacre keys rotate --class {mine[0].class_} --kind kms` yearly")  # fmt: skip


def _text(error: LacreError) -> str:
    return str(error) or "it does not verify"


def _show(found: Mapping[str, object]) -> None:
    alias = f" ({found['alias']})" if found["alias"] else ""
    out.print(f"{found['kms_key']}{alias}", markup=False)
    lines = [("for", ", ".join(cast(list[str], found["classes"])))]
    if "state" in found:
        version = "" if found["version"] is None else f", version {found['version']}"
        lines += [
            ("state", f"{found['state']}{version}"),
            ("rotation", str(found["rotation"] or "not by itself")),
            ("deletion", str(found["deletion"] or "none pending")),
            ("policy", str(found["policy"] or "not told")),
            ("latency", f"{cast(float, found['latency']) * 1e3:.1f} ms"),
        ]
    last = f"{found['last_use']} (by {found['last_use_from']})" if found["last_use"] else "unknown"
    lines += [("last use", last), ("keys", str(found["keys"]))]
    lines += [("attention", step["what"]) for step in cast(list[dict[str, str]], found["attention"])]  # fmt: skip
    for name, text in lines:
        out.print(f"  {name:<10} {text}", markup=False)


def _uses(lacre: Lacre) -> Mapping[tuple[str, str], str]:
    # The newest use of each class and kind of key, from the log; from the lines where there is none.
    audit = lacre.policy.file.audit
    if audit.url is None:
        return {} if audit.path is None else _last_uses(lacre.base / audit.path)
    found: dict[tuple[str, str], str] = {}
    log = open_log(lacre.policy.file, lacre.base)
    try:
        reader = LogReader(log)
        for class_ in lacre.policy.file.classes:
            for use, actions in _USES.items():
                pages = (
                    reader.page(Filters(class_=class_, action=action, status="compliant"))
                    for action in actions
                )
                times = [
                    str(leaf.entry.members["time"])
                    for page in pages
                    for leaf in page
                    if leaf.entry.members["outcome"] == "allowed"
                ]
                if times:
                    found[class_, use] = max(times)
    finally:
        log.close()
    return found


def _last_uses(path: Path) -> Mapping[tuple[str, str], str]:
    # The newest event of each class and use near the log's end; a pipe or no file tells nothing.
    found: dict[tuple[str, str], str] = {}
    if not path.is_file():
        return found
    try:
        with path.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - _TAIL))
            lines = log.read().splitlines()
    except OSError:
        return found
    wanted = {KeyKind.BRANCH: "fields", KeyKind.INDEX: "index"}.values()
    for line in reversed(lines):
        try:
            event = json.loads(line)
            action, class_, when = event["action"], event["class"], event["time"]
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut off, or an event of no class
        for use in wanted:
            if action in _USES[use] and event.get("outcome") == "allowed":
                found.setdefault((str(class_), use), str(when))
    return found
