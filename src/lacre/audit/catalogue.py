# SPDX-License-Identifier: Apache-2.0
"""
The catalogue of events as a page: every action, when it is recorded, and what an entry says.

Made from the classes themselves, so that no page says what the code does not. Reads no log.
"""

import inspect
import re
from collections.abc import Mapping

from lacre.audit.entries import ALWAYS, CATALOGUE, COMMON
from lacre.audit.event import Event

__all__ = ["MEANINGS", "page"]

# What each member of an entry says. An event's own docstring says more, where it means more there.
MEANINGS: Mapping[str, str] = {
    "about": "the principal that it is about",
    "action": "which event it is",
    "agent": "the caller's user agent, at most 256 characters; the caller's own text",
    "alert": "the alert's id",
    "anchor": "where the checkpoint was put",
    "app": "of `lacre.toml`",
    "anchored": "whether what anchors have agrees: `holds`, `broken`, or `unasked`",
    "attempts": "how often the key service was tried for the one call",
    "batch": "its number in the reading",
    "before": "what was in its place: key ids, a digest, or a shard",
    "beneficiary": "whose right it is",
    "bits": "of the index: how many hits are hits by chance",
    "bound": "looks at most",
    "breakglass": "whether it went past the usual approval",
    "budget": "rows, or looks, at most",
    "cache": "how the key was had: `hit`, `fetched` (the first use since it was asked for), `stale` (past its age); empty without a key",
    "calls": "unwraps that the key service logged",
    "certificate": "SHA-256 of the certificate",
    "class": "of the column or key",
    "code": "version of the application's code",
    "column": "its logical name",
    "columns": "``store.table.column``; of a bulk reading each with class, outcome and rule",
    "completeness": "whether all of it is there: `holds` or `broken`",
    "control": "its name in the registry",
    "correlation": "the id that the records of one request share, in every service",
    "count": "how many values or rows",
    "digest": "of the key's row, which the key service saw: `lacre-row` of the wrap context",
    "due": "when it is due again",
    "dump": "SHA-256 of the dump",
    "env": "of `lacre.toml`",
    "epoch": "its number",
    "erased": "values whose subject was shredded, which left as NULL",
    "events": "how many the writer handed over, this one included",
    "excluded": "rows that shared a token by chance and were taken out",
    "found": "of the searches, how many at most found something",
    "from": "the KMS key before",
    "gives": "what the policy gives: rights of roles, purposes, masks, the classes of columns",
    "grant": "its id",
    "id": "32 hex digits, a UUID of version 7; an entry counts once by it",
    "index": "the index that was asked",
    "ip": "the caller's address",
    "integrity": "whether what is there was signed: `holds` or `broken`",
    "joined": "the other tables of the statement",
    "key": "id of the key; empty without one, or where there were several",
    "keys": "ids of the keys, or how many",
    "keystore": "id of the key store",
    "kind": "of the key: `branch`, `data`, `subject`, `index`, ...",
    "kms_key": "the KMS key that was asked for",
    "leaves": "how many were read",
    "looks": "how many were drawn on the opening",
    "matched": "of those, how many the log has too",
    "number": "its place among the writer's entries, from 1, without a gap",
    "opening": "id of the opening",
    "operation": "`unwrap`, or `rewrap`",
    "outcome": "`allowed`, `masked`, `denied` or `failed`",
    "policy": "SHA-256 of the policy",
    "principal": "who acted",
    "problems": "how many were found",
    "proof": "SHA-256 of what shows it",
    "purpose": "why",
    "reading": "the same for all batches of one bulk reading",
    "reason": "a word or ticket that the purpose was served for",
    "requests": "ids under which the key service answered; its own log has them too",
    "right": "which right",
    "roles": "as what",
    "root": "of the tree, hex",
    "rows": "row ids that were integers or UUIDs, as often as they were used; none where values have subjects",
    "rule": "the rule of the policy, or of detection, that decided",
    "score": "of the report",
    "searches": "how many were answered",
    "secret": "its path, never its value",
    "service": "of `lacre.toml`",
    "severity": "`low`, `medium`, `high` or `critical`",
    "shard": "the month of the log, `2026-11`",
    "since": "moment of the leaf before; of a comparison, its beginning",
    "size": "of the tree, in leaves",
    "snapshot": "SHA-256 of the snapshot of evidence",
    "state": "of the key, from now on",
    "statement": "what an operator signed about it: a C2SP note, or empty",
    "status": "`compliant`, `prevented`, `failed` or `transitional`",
    "step": "which step of several",
    "store": "the database's logical name",
    "subject": "pseudonym of the subject",
    "subjects": "pseudonyms of those whose values they were, as often as they were used; a shred makes them nobody's",
    "success": "false where the policy prevented it, or it failed",
    "table": "its logical name",
    "tenant": "whose data",
    "time": "when, by the clock of the process: RFC 3339, UTC",
    "to": "the KMS key now",
    "token": "what names the planted row; which row it is, is not in the log",
    "unseen": "unwraps in the log that the key service does not know",
    "until": "when it ends, RFC 3339",
    "version": "of the key or secret",
    "what": "which one was explained: a moment, a writer or an opening",
    "widened": "what of that the policy before did not give",
    "writer": "the process that numbers it; none of entries that came through an outbox",
}


def page() -> str:
    """Return the catalogue in Markdown."""
    lines = ["## In every entry", "", "| member | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {MEANINGS[name]} |" for name in sorted(ALWAYS)]
    lines += ["", "And where it is known:", "", "| member | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {MEANINGS[name]} |" for name in sorted(COMMON - ALWAYS)]
    lines += ["", "## Actions", "", "| action | when | members | status |", "|---|---|---|---|"]
    for action, kind in sorted(CATALOGUE.items()):
        members = ", ".join(f"`{name}`" for name in sorted(kind.members)) or "none of its own"
        lines.append(f"| `{action}` | {_when(kind)} | {members} | {_status(kind)} |")
    own = sorted({name for kind in CATALOGUE.values() for name in kind.members})
    lines += ["", "## Members", "", "| member | what it says |", "|---|---|"]
    lines += [f"| `{name}` | {MEANINGS[name]} |" for name in own]
    return "\n".join(lines) + "\n"


def _when(kind: type[Event]) -> str:
    text = re.sub(r"\s+", " ", inspect.getdoc(kind) or "").strip()
    # Members are set in `*` there, where Sphinx and readers of code expect it.
    return re.sub(r"(?<!\*)\*([a-z_]+)\*(?!\*)", r"`\1`", text).replace("|", "\\|")


def _status(kind: type[Event]) -> str:
    return "by its outcome" if "outcome" in kind.members else f"`{kind.status}`"
