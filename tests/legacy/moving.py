# SPDX-License-Identifier: Apache-2.0
"""A job that moves the Nexus service's users in."""

from pathlib import Path

from lacre.context import acting_as
from lacre.jobs.columns import ColumnRequest
from lacre.jobs.ledger import Report
from lacre.jobs.pace import Pace
from lacre.jobs.postgresql.protect import protect
from lacre.jobs.sources import Source, SourceReader, Sources
from lacre.legacy import NexusReader
from tests.jobs.double import authority, fields_as_planned
from tests.legacy.originals import FileKms

COLUMNS = [
    ColumnRequest(name="encryptedCpf", class_="pii", normaliser="cpf", reader="nexus"),
    ColumnRequest(name="encryptedPhone", class_="pii", reader="nexus"),
]


def sources(kms: FileKms) -> Sources:
    """Read both columns as the service wrote them."""
    reader = NexusReader(name="nexus", unwrap=kms.unwrap)

    def source(asked: Source) -> SourceReader:
        assert asked.reader == "nexus"
        return reader

    return source


def move(dsn: str, states: Path, kms: FileKms, **options: object) -> Report:
    """Move the table `users` in."""
    given = {"pace": Pace(batch=20)} | options
    with acting_as("operator", roles={"operator"}, purpose="protect"):
        return protect(
            dsn,
            "users",
            COLUMNS,
            fields=fields_as_planned,
            authority=authority(states),
            sources=sources(kms),
            **given,  # type: ignore[arg-type]
        )
