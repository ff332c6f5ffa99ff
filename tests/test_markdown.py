# SPDX-License-Identifier: Apache-2.0
"""The reader and runner of the documents finds what is wrong, and runs what it says it runs."""

import dataclasses
import sys
from pathlib import Path

import pytest

from lacre.context import _current
from tests.markdown import anchors, blocks, commands, dead_links, pages, run_page


def _page(folder: Path, text: str, name: str = "page.md") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_blocks_of_one_page_share_a_namespace(tmp_path: Path) -> None:
    """A later block sees what an earlier one defined, and both count as run."""
    page = _page(tmp_path, "```python\na = 20\n```\ntext\n```python\nassert a + 1 == 21\n```\n")

    assert run_page(page, tmp_path) == 2


def test_pages_do_not_share_a_namespace(tmp_path: Path) -> None:
    """A name that only another page defines is a NameError."""
    run_page(_page(tmp_path, "```python\nleft_behind = 1\n```\n", "first.md"), tmp_path)

    with pytest.raises(NameError):
        run_page(_page(tmp_path, "```python\nleft_behind\n```\n", "second.md"), tmp_path)
    assert "documented_page" not in sys.modules


def test_pages_do_not_share_a_module_that_they_write(tmp_path: Path) -> None:
    """Two pages that each write and import a module of one name import their own."""
    text = "```python\nimport pathlib, sys\npathlib.Path('shop_of_a_page.py').write_text('here = {}')\nsys.path.insert(0, '.')\nimport shop_of_a_page\nassert shop_of_a_page.here == {}\n```\n"
    for number in range(2):
        page = _page(tmp_path / str(number), text.replace("{}", str(number)))
        run_page(page, page.parent)


def test_a_failing_block_fails_with_the_line_of_the_page(tmp_path: Path) -> None:
    """The traceback of a block that fails names the page and the line in it."""
    page = _page(tmp_path, "# Title\n\ntext\n\n```python\nassert True\nassert 1 == 2\n```\n")

    with pytest.raises(AssertionError) as caught:
        run_page(page, tmp_path)
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (page, 7)


def test_a_page_runs_in_the_given_directory(tmp_path: Path) -> None:
    """Files that a page writes land in its directory, and the working directory comes back."""
    before = Path.cwd()
    run_page(_page(tmp_path, "```python\nopen('made.txt', 'x').close()\n```\n"), tmp_path)

    assert (tmp_path / "made.txt").exists()
    assert Path.cwd() == before


def test_a_page_may_define_classes_that_look_themselves_up(tmp_path: Path) -> None:
    """A dataclass with postponed annotations works: its module is found."""
    text = "```python\nfrom __future__ import annotations\nimport dataclasses, typing\n@dataclasses.dataclass(slots=True)\nclass A:\n    x: int\nassert typing.get_type_hints(A) == {'x': int}\n```\n"

    assert dataclasses.is_dataclass(dataclasses.make_dataclass("B", []))
    assert run_page(_page(tmp_path, text), tmp_path) == 1


def test_a_page_leaves_nobody_acting(tmp_path: Path) -> None:
    """An acting block that a page never closes does not reach the test that follows."""
    text = "```python\nimport lacre.context as c\nopened = c.acting_as('svc:doc', purpose='demo')\nopened.__enter__()\nassert c.current().principal == 'svc:doc'\n```\n"
    run_page(_page(tmp_path, text), tmp_path)

    assert _current.get() is None


def test_notest_is_compiled_and_not_run(tmp_path: Path) -> None:
    """A block marked notest may not be wrong Python, and has no effect."""
    run_page(_page(tmp_path, "```python notest\nraise SystemExit('ran')\n```\n"), tmp_path)

    with pytest.raises(SyntaxError):
        run_page(_page(tmp_path, "```python notest\ndef (:\n```\n"), tmp_path)


def test_an_unclosed_block_is_an_error(tmp_path: Path) -> None:
    """A fence that is never closed would swallow the rest of the page, so it is refused."""
    with pytest.raises(ValueError, match="never closed"):
        blocks("```python\nassert False\n")


def test_blocks_may_be_indented_and_hold_shorter_fences() -> None:
    """A block in a list loses the list's indent, and four backticks enclose three."""
    found = blocks(
        "1. step\n\n   ```python\n   if True:\n       x = 1\n   ```\n\n````text\n```\nin\n```\n````\n"
    )

    assert [(block.language, block.text, block.line) for block in found] == [
        ("python", "if True:\n    x = 1\n", 4),
        ("text", "```\nin\n```\n", 9),
    ]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("```toml\na = [1,\n```\n", AssertionError),
        ("```json\n{'a': 1}\n```\n", AssertionError),
        ("```console run\n$ rm -r x\n```\n", AssertionError),
        ("```console run\nno prompt\n```\n", AssertionError),
        ("```console run\n$ python -c 'raise SystemExit(3)'\n```\n", AssertionError),
        ("```console run\n$ python -c 'print(1)'\n2\n```\n", AssertionError),
    ],
)
def test_a_wrong_block_of_any_kind_fails(
    tmp_path: Path, text: str, failure: type[Exception]
) -> None:
    """Configuration that does not parse, a foreign command, another exit code or output: each fails."""
    with pytest.raises(failure):
        run_page(_page(tmp_path, text), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "```toml\na = [1]\n```\n",
        '```json\n{"a": 1}\n```\n',
        "```console run\n$ python -c 'raise SystemExit(3)'  # exits 3\n```\n",
        "```console run\n$ python -c \"print('took 12 ms'); print('done')\"\ntook ... ms\ndone\n```\n",
        "```console run\n$ python -c 'import lacre.errors'\n```\n",
    ],
)
def test_a_right_block_of_any_kind_runs(tmp_path: Path, text: str) -> None:
    """The same kinds, right, run; an ellipsis stands for what varies."""
    assert run_page(_page(tmp_path, text), tmp_path) == 1


@pytest.mark.parametrize(
    "text", ["```console\n$ rm -r x\n```\n", "```sh\nexit 1\n```\n", "```\nfree text\n```\n"]
)
def test_other_blocks_are_only_shown(tmp_path: Path, text: str) -> None:
    """A console block without the mark, and any other language, is not run."""
    assert run_page(_page(tmp_path, text), tmp_path) == 0


def test_dead_links_are_found(tmp_path: Path) -> None:
    """A missing file, a missing anchor, a way out of the repository and plain http are dead."""
    root = tmp_path / "root"
    _page(tmp_path, "outside\n", "outside.md")
    _page(root, "# Here\n\n## Two words, `code`\n", "docs/there.md")
    page = _page(
        root,
        "# Start\n\n[a](docs/missing.md) [b](docs/there.md#nowhere) ![c](../outside.md)\n[d](http://example.org/) [e](#end)\n\n[f]: docs/gone.md\n",
    )

    assert [sentence.split(": ", 1)[1].split(" ")[0] for sentence in dead_links(page, root)] == [
        "docs/missing.md",
        "docs/there.md#nowhere",
        "../outside.md",
        "http://example.org/",
        "#end",
        "docs/gone.md",
    ]


def test_live_links_are_not_dead(tmp_path: Path) -> None:
    """Files, folders, anchors as GitHub makes them and https addresses pass; code is not searched."""
    _page(tmp_path, "# Here\n\n## Two words, `code`\n\n## Again\n\n## Again\n", "docs/there.md")
    page = _page(
        tmp_path,
        "# Start\n\n[a](docs/there.md) [b](docs/there.md#two-words-code) [c](docs) [d](#start) [e](https://example.org/) [f](docs/there.md#again-1)\n`[x](nowhere.md)`\n\n```text\n[y](nowhere.md)\n```\n",
    )

    assert dead_links(page, tmp_path) == []
    assert anchors("# `a_b` & [c](d.md) é\n") == {"a_b--c-é"}


def test_hidden_and_built_folders_hold_no_pages(tmp_path: Path) -> None:
    """Virtual environments, build output and dot folders are not the project's documents."""
    for name in (".venv/x.md", "build/x.md", "node_modules/x.md", "docs/x.md"):
        _page(tmp_path, "text\n", name)

    assert pages(tmp_path) == [tmp_path / "docs" / "x.md"]


def test_commands_are_found_where_they_are_promised() -> None:
    """Code spans and console lines name commands; a line that says planned promises nothing."""
    text = "Run `lacre keys list` or `lacre init --yes`.\n`lacre policy render` is planned.\n\n```console\n$ lacre protect --dry-run\n```\n"

    assert commands(text) == [(1, ("keys", "list")), (1, ("init",)), (5, ("protect",))]
