# SPDX-License-Identifier: Apache-2.0
"""`lacre serve`: what it refuses, and how it shows its link; and counts that are made beside pages."""

import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from lacre.cli import serving
from lacre.dashboard import serving as dashboard
from lacre.dashboard.counting import Counting
from lacre.dashboard.place import Place
from lacre.dashboard.sources import Sources
from lacre.fields.scheme import Scheme
from lacre.jobs.coverage import Coverage, Share, Standing
from tests.cli.conftest import Run, cli
from tests.dashboard.conftest import Entrance
from tests.dashboard.world import World

__all__ = ["cli"]

COVERAGE = Coverage(
    table="customers",
    column="<email>",
    scheme=Scheme(class_="pii", store="main", table="customers", column="email", python_type=str),
    shares=(
        Share(key=b"\1" * 16, values=997, standing=Standing.ACTIVE),
        Share(key=b"\2" * 16, values=2, standing=Standing.OLDER),
        Share(key=None, values=1, standing=Standing.PLAINTEXT),
    ),
)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sources, Place]]:
    """What would be served: no port is opened; a link is shown."""
    found: list[tuple[Sources, Place]] = []

    def run(sources: Sources, *, place: Place, linked: Any) -> None:
        found.append((sources, place))
        linked(f"{place.url}/login?token=one-time")

    monkeypatch.setattr(dashboard, "serve", run)
    return found


def test_it_listens_to_this_machine_and_shows_a_link(cli: Run, served: list[Any]) -> None:
    """On stdout, alone; as the operator, who may acknowledge."""
    done = cli("serve")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "http://127.0.0.1:8321/login?token=one-time\n"
    assert served[0][0].operator == "operator"
    assert served[0][1].loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_needs_a_word_and_warns(cli: Run, served: list[Any], host: str) -> None:
    """Other machines would reach it, unencrypted."""
    refused = cli("serve", "--host", host)
    allowed = cli("serve", "--host", host, "--beyond-this-machine")

    assert refused.returncode == 3
    assert "--beyond-this-machine" in refused.stderr
    assert allowed.returncode == 0
    assert "warning" in allowed.stderr
    assert len(served) == 1


def test_a_link_may_go_to_a_file_of_ones_own(cli: Run, served: list[Any], tmp_path: Path) -> None:
    """Where stdout is kept by somebody; a link that was planted there is replaced, not followed."""
    target, path = tmp_path / "elsewhere", tmp_path / "link"
    path.symlink_to(target)
    done = cli("serve", "--link-file", str(path))

    assert "one-time" not in done.stdout + done.stderr
    assert path.read_text() == "http://127.0.0.1:8321/login?token=one-time\n"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert not target.exists()
    assert served


def test_read_only_needs_no_operator(cli: Run, served: list[Any], home: Path) -> None:
    """Its identity is not even opened."""
    (home / "lacre" / "identities" / "operator.key").unlink()

    assert cli("serve", "--read-only").returncode == 0
    assert cli("serve").returncode == 3
    assert served[0][0].operator is None


def test_models_and_database_go_together(cli: Run, served: list[Any]) -> None:
    """And a password in an argument is refused, as everywhere."""
    assert cli("serve", "--database", "postgresql://h/d").returncode == 8
    assert not served


def test_counts_are_of_a_moment_and_stay_when_counting_fails(world: World) -> None:
    """A page shows the last ones; what the database said is in no log of ours."""
    answers: list[Any] = [[COVERAGE], ValueError("529.982.247-25")]

    def count() -> list[Coverage]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    counting = Counting(count, every=1000)
    import dataclasses

    entrance = Entrance(sources=dataclasses.replace(world.sources, coverage=counting))
    browser = entrance.entered()
    before = browser.get("/fields").text
    counting.count()
    after = browser.get("/fields").text
    counting.count()
    failed = browser.get("/fields").text

    assert "Counting. Reload" in before
    assert "customers.&lt;email&gt;" in after
    assert "99.7 %" in after
    assert "997 under the active key, 2 under an older key, 1 not encrypted" in after
    assert "99.7 %" in failed
    assert "not again since" in failed
    assert "529" not in failed


def test_counting_begins_by_itself_and_ends_with_its_block() -> None:
    """In a thread that no page waits for."""
    counted = threading.Event()

    def count() -> list[Coverage]:
        counted.set()
        return []

    with Counting(count, every=1000) as counting:
        assert counted.wait(60)
    counting._thread.join(60)

    assert not counting._thread.is_alive()


def test_the_server_keeps_no_log_of_requests_and_believes_no_forwarded_header(world: World) -> None:
    """Their query strings hold tokens and names; and whoever reaches the port could write the headers."""
    server, _ = dashboard.server(world.sources, place=Place(), linked=lambda _: None)

    assert not server.config.access_log
    assert not server.config.proxy_headers
    assert not server.config.server_header
    assert serving.serve
