# SPDX-License-Identifier: Apache-2.0
"""
Makes an interpreter, and those it starts, know only the packages that a file of pins names.

What else is installed beside them is not found, as if it were not there. Does not look at what
was imported before.
"""

import os
import re
import sys
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

__all__ = ["environment", "pinned", "refused"]

# Python imports it when it starts, also where a test starts a program that starts another.
_CUSTOMIZE = """\
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Refusing())
"""


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(constraints: Path) -> frozenset[str]:
    """Return the packages that *constraints* pins."""
    names = re.findall(r"^([\w.-]+)==", constraints.read_text("utf-8"), re.MULTILINE)
    return frozenset(_normalised(name) for name in names)


def refused(constraints: Path) -> frozenset[str]:
    """Return the modules that are installed here and come from no package of *constraints*."""
    allowed = pinned(constraints) | {"lacre"}
    return frozenset(
        module
        for module, packages in packages_distributions().items()
        if not allowed & {_normalised(package) for package in packages}
    )


def environment(constraints: Path, directory: Path) -> Mapping[str, str]:
    """
    Return the environment of an interpreter that finds what *constraints* names, and nothing else.

    Args:
        directory: an empty one, for the file that Python reads when it starts.
    """
    text = _CUSTOMIZE.format(refused=sorted(refused(constraints)))
    (directory / "sitecustomize.py").write_text(text, "utf-8")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LACRE_")},
        "PYTHONPATH": os.pathsep.join([str(directory), *(path for path in sys.path if path)]),
        "COLUMNS": "120",
    }
