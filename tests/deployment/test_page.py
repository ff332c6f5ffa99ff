# SPDX-License-Identifier: Apache-2.0
"""The modules on the page are those that the other tests of this folder run."""

from pathlib import Path

from tests.deployment.serving import write_modules


def test_the_page_shows_the_modules_that_are_run(tmp_path: Path) -> None:
    """A block that lost its name would be shown and run by nobody."""
    written = write_modules(tmp_path)

    assert written == [
        "shop.py",
        "web.py",
        "gunicorn.conf.py",
        "api.py",
        "middleware.py",
        "desk.py",
        "desk_async.py",
        "tasks.py",
        "handler.py",
    ]
