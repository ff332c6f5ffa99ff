# SPDX-License-Identifier: Apache-2.0
"""
`[audit]` of `lacre.toml`: where evidence is kept, how, for how long, and who signs it.

Does not open or read any of it (`lacre.stores.log`, `lacre.sinks`).
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from lacre.policy.anchors import AnchorSettings
from lacre.policy.terms import Term, TermText
from lacre.policy.values import Identifier, Name, Table

__all__ = ["AuditSettings"]


class AuditSettings(Table):
    """
    `[audit]`: the evidence, in a log (*url*), as JSON lines (*path*), or both.

    *buffer* bounds what SIGKILL can lose. In *mode* `strict` an opening is recorded before keys are
    handed out, for *looks* looks at most and *open_for* seconds. *outboxes* are the databases of stores that have the
    table `lacre_outbox`, which writes are recorded in, in their own transaction. *identity* signs
    the log's checkpoints wherever it is sequenced: in the application (*sequencer* `here`) or by
    `lacre audit sequence` (`apart`); *signers* are those whose checkpoints are believed.
    """

    url: str | None = None
    schema_: Identifier = Field(default="lacre_audit", alias="schema")
    path: str | None = None
    mode: Literal["bounded", "strict"] = "bounded"
    buffer: int = Field(default=10_000, ge=1, le=1_000_000)
    looks: int = Field(default=10_000, ge=1, le=1_000_000)
    open_for: float = Field(default=60.0, ge=1, le=3600)
    sequencer: Literal["here", "apart"] = "here"
    identity: str | None = None
    signers: tuple[str, ...] = ()
    heartbeat: float = Field(default=60.0, ge=1, le=3600)
    outboxes: dict[Name, str] = Field(default_factory=dict)
    retention: TermText = Term(years=7)
    anchors: dict[Name, AnchorSettings] = Field(default_factory=dict)
    anchor_every: float = Field(default=15.0, ge=1, le=1440)
    opentelemetry: bool = False  # a copy, as log records

    @model_validator(mode="after")
    def _is_kept_somewhere(self) -> Self:
        if self.url is None and self.path is None:
            raise ValueError("[audit] needs url, path, or both: where evidence is kept")
        return self
