# SPDX-License-Identifier: Apache-2.0
"""The command line, for moves that it makes."""

from tests.cli.conftest import cli

__all__ = ["cli"]
