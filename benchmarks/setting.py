# SPDX-License-Identifier: Apache-2.0
"""
A real application to measure: what `lacre init` makes, in a temporary directory.

Nothing in it is a stand-in: the local keystore, the SQLite key store, the policy, and the
JSON-lines file that every look is written to and flushed to disk.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lacre import Lacre, acting_as
from lacre.cli.initialise import initialise

__all__ = ["application"]


@contextmanager
def application() -> Iterator[Lacre]:
    """Open the application, acting as a service that may encrypt and decrypt."""
    with tempfile.TemporaryDirectory(prefix="lacre-bench-") as directory:
        made = initialise(Path(directory))
        with (
            Lacre.load(made.config, environ={}) as lacre,
            acting_as("svc:bench", roles={"app"}, purpose="bench", across_yield=True),
        ):
            yield lacre
