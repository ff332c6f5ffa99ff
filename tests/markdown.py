# SPDX-License-Identifier: Apache-2.0
"""
Reads the project's Markdown: headings, links and fenced blocks; runs the blocks that are run.

Blocks of one page share a namespace and a directory, in order. A fence's info string says what
happens to it:

    python           executed
    python notest    compiled only
    console run      every ``$ lacre ...`` line is run, its output compared where some is shown
                     (``...`` stands for anything); ``# exits N`` expects that exit code. Also
                     `python`, `sh`, `bao` and `rm`; ``NAME=value`` before the command and
                     ``> FILE`` behind it (with umask 077) are what they are in a shell
    toml, json       parsed
    anything else    shown only

Does not fetch anything and does not check addresses outside the repository.
"""

import contextvars
import doctest
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from tests.components import warm

__all__ = [
    "Block",
    "Link",
    "anchors",
    "blocks",
    "commands",
    "dead_links",
    "links",
    "modules_of",
    "pages",
    "prose",
    "run_page",
]

Call = Callable[..., subprocess.CompletedProcess[str]]

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_HEADING = re.compile(r"^#{1,6} +(.*?)(?: +#+)? *$")
_INLINE_CODE = re.compile(r"(`+)(.+?)\1")
_LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^ {0,3}\[[^\]^]+\]:\s*<?([^\s>]+)>?")
_EXPLICIT_ANCHOR = re.compile(r"<a +(?:id|name)=\"([^\"]+)\"")
_EXITS = re.compile(r"\s+# exits (\d+)\s*$")
_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)", re.DOTALL)
_COMMAND = re.compile(r"^lacre((?: [a-z][a-z-]*){1,2})")
_SKIPPED = {"node_modules", "build", "dist", "site", "venv", "__pycache__"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. *line* is that of its first line of content, counted from 1."""

    line: int
    language: str
    flags: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    line: int
    target: str


def pages(root: Path) -> list[Path]:
    """Return every Markdown file below *root* that belongs to the project, sorted."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _SKIPPED]
        found += [Path(folder, name) for name in files if name.endswith(".md")]
    return sorted(found)


def _walk(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield (line number, fence indent + info or '', kind, line); kind is text, open, code, close."""
    fence = indent = info = ""
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not fence and found and "`" not in found[3]:
            indent, fence, info = found[1], found[2], found[3].strip()
            yield number, info, "open", line
        elif fence and found and found[2].startswith(fence) and not found[3].strip():
            fence = ""
            yield number, info, "close", line
        elif fence:
            yield number, info, "code", line.removeprefix(indent)
        else:
            yield number, "", "text", line
    if fence:
        raise ValueError("a fenced block is never closed")


def blocks(text: str) -> list[Block]:
    """
    Return the fenced blocks of a page.

    Raises:
        ValueError: a block is never closed, so that what follows would silently not be run.
    """
    found: list[Block] = []
    lines: list[str] = []
    start = 0
    for number, info, kind, line in _walk(text):
        if kind == "open":
            lines, start = [], number + 1
        elif kind == "code":
            lines.append(line)
        elif kind == "close":
            language, *flags = info.split() or [""]
            found.append(
                Block(
                    line=start,
                    language=language,
                    flags=frozenset(flags),
                    text="\n".join(lines) + "\n",
                )
            )
    return found


def prose(text: str) -> list[tuple[int, str]]:
    """Return the numbered lines outside fenced blocks."""
    return [(number, line) for number, _, kind, line in _walk(text) if kind == "text"]


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: its headings as GitHub slugs them, and explicit ones."""
    seen: dict[str, int] = {}
    found = set()
    for _, line in prose(text):
        found.update(_EXPLICIT_ANCHOR.findall(line))
        heading = _HEADING.match(line)
        if heading:
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
    return found


def links(text: str) -> list[Link]:
    """Return the targets that a page links to; code is not searched."""
    found = []
    for number, line in prose(text):
        bare = _INLINE_CODE.sub("", line)
        targets = _LINK.findall(bare) + _REFERENCE.findall(bare)
        found += [Link(line=number, target=target) for target in targets]
    return found


def dead_links(page: Path, root: Path) -> list[str]:
    """Return one sentence for each link of *page* that leads nowhere, or out of *root*."""
    dead = []
    text = page.read_text("utf-8")
    for link in links(text):
        where = f"{page.relative_to(root)}:{link.line}: {link.target}"
        if re.match(r"[a-z][a-z0-9+.-]*:", link.target):
            if not link.target.startswith(("https://", "mailto:")):
                dead.append(f"{where} is neither https nor relative")
            continue
        path, _, anchor = link.target.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(root.resolve()) or not target.exists():
            dead.append(f"{where} does not exist")
        elif anchor and (
            target.suffix != ".md" or anchor not in anchors(target.read_text("utf-8"))
        ):
            dead.append(f"{where} has no such anchor")
    return dead


def commands(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """
    Return the `lacre` commands a page names, in code spans and console blocks.

    A line that says "planned" names what is not there yet and is left out.
    """
    found = []
    for number, line in prose(text):
        if "planned" in line.lower():
            continue
        spans = (_COMMAND.match(span[1].strip()) for span in _INLINE_CODE.findall(line))
        found += [(number, tuple(named[1].split())) for named in spans if named]
    for block in blocks(text):
        if block.language == "console":
            for offset, line in enumerate(block.text.splitlines()):
                if line.startswith("$ ") and (named := _COMMAND.match(line[2:])):
                    found.append((block.line + offset, tuple(named[1].split())))
    return found


def run_page(page: Path, directory: Path, call: Call | None = None) -> int:
    """
    Run the blocks of *page* in *directory* and return how many ran or parsed.

    Args:
        call: runs a `lacre` command, given its words and the directory; in a process of its own
            without it. With it ``$NAME`` in such a command is the environment's.

    Python blocks live in one module of their own (classes and dataclasses look themselves up in
    it) and in a context of their own, so that no acting principal leaks into the next page.
    Whatever a block raises is raised, with the page's own file name and line numbers.
    """
    source = page.read_text("utf-8")
    module = ModuleType("documented_page")
    module.__file__ = str(page)
    context = contextvars.copy_context()
    ran = 0
    with chdir(directory), modules_of(directory):
        sys.modules[module.__name__] = module
        try:
            for block in blocks(source):
                run = _runner(block, call)
                if run is not None:
                    context.run(run, block, page, module)
                    ran += 1
        finally:
            del sys.modules[module.__name__]
    return ran


@contextmanager
def modules_of(directory: Path) -> Iterator[None]:
    """Forget afterwards where modules were looked for, and those found in *directory*: another has a shop.py of its own."""
    path, loaded, finders = list(sys.path), set(sys.modules), set(sys.path_importer_cache)
    try:
        yield
    finally:
        for name in set(sys.modules) - loaded:
            written = getattr(sys.modules[name], "__file__", None)
            if written and Path(written).resolve().is_relative_to(directory.resolve()):
                del sys.modules[name]
        # The finder of "." is that of the directory in which it was made.
        for place in set(sys.path_importer_cache) - finders:
            del sys.path_importer_cache[place]
        sys.path[:] = path


def _runner(block: Block, call: Call | None) -> Callable[[Block, Path, ModuleType], None] | None:
    if block.language == "console":
        return partial(_run_console, call=call) if "run" in block.flags else None
    return {"python": _run_python, "toml": _parse_toml, "json": _parse_json}.get(block.language)


def _run_python(block: Block, page: Path, module: ModuleType) -> None:
    # Blank lines in front make line numbers those of the page. dont_inherit: this module's own
    # __future__ flags are no part of the page.
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
    if "notest" not in block.flags:
        exec(code, module.__dict__)


def _parse_toml(block: Block, page: Path, _: ModuleType) -> None:
    try:
        tomllib.loads(block.text)
    except tomllib.TOMLDecodeError as error:
        raise AssertionError(f"{page}:{block.line}: {error}") from None


def _parse_json(block: Block, page: Path, _: ModuleType) -> None:
    try:
        json.loads(block.text)
    except json.JSONDecodeError as error:
        raise AssertionError(f"{page}:{block.line}: {error}") from None


def _run_console(block: Block, page: Path, _: ModuleType, *, call: Call | None) -> None:
    steps: list[tuple[str, list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            steps.append((line[2:], []))
        elif steps:
            steps[-1][1].append(line)
        elif line.strip():
            raise AssertionError(
                f"{page}:{block.line}: a console block that is run begins with `$ `"
            )
    for command, expected in steps:
        exits = _EXITS.search(command)
        wanted = int(exits[1]) if exits else 0
        words = shlex.split(command, comments=True)
        set_here = {}
        while words and (found := _ASSIGNMENT.fullmatch(words[0])):
            set_here[found[1]] = found[2]
            del words[0]
        into = Path(words.pop()) if words[-2:-1] == [">"] else None
        if into is not None:
            words.pop()
        if call is not None and words[:1] == ["lacre"]:
            done = call(*map(os.path.expandvars, words[1:]), cwd=Path.cwd())
        else:
            done = _ran(words, page, block, _environment() | set_here)
        if into is not None:
            into.touch(mode=0o600)
            into.write_text(done.stdout)
            done.stdout = ""
        if done.returncode != wanted:
            raise AssertionError(
                f"{page}:{block.line}: `{command}` exits {done.returncode}, not {wanted}\n{done.stdout}{done.stderr}"
            )
        want, got = (
            "\n".join(expected).strip(),
            "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip(),
        )
        if want and not doctest.OutputChecker().check_output(
            want + "\n", got + "\n", doctest.ELLIPSIS
        ):
            raise AssertionError(f"{page}:{block.line}: `{command}` prints\n{got}\nnot\n{want}")


def _ran(
    words: list[str], page: Path, block: Block, environ: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    if words[:1] == ["lacre"]:
        return warm.run(*words[1:], cwd=Path.cwd(), environ=environ)
    return subprocess.run(
        _argv(words, page, block),
        capture_output=True,
        text=True,
        env=environ,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def _argv(words: list[str], page: Path, block: Block) -> list[str]:
    if words[:1] == ["python"]:
        return [sys.executable, *words[1:]]
    if words[:1] in (["sh"], ["bao"], ["rm"]):
        return words
    raise AssertionError(
        f"{page}:{block.line}: a console block that is run holds `$ lacre ...` and the like only"
    )


def _environment() -> dict[str, str]:
    # The library as the suite imports it, also from a directory that is not the checkout.
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "COLUMNS": "120",
        "NO_COLOR": "1",
    }
