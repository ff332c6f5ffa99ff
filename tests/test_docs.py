# SPDX-License-Identifier: Apache-2.0
"""The documents say what the code does: links, anchors, examples, commands, errors and words."""

import ast
import inspect
import os
import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import get_args, get_origin

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from lacre import errors
from lacre.cli.program import app
from lacre.errors import LacreError
from lacre.policy.loading import OVERLAY, parse_policy
from lacre.policy.model import PolicyFile
from tests.calling import call
from tests.markdown import anchors, blocks, commands, dead_links, pages, prose, run_page
from tests.trouble import strike

ROOT = Path(__file__).resolve().parent.parent
PAGES = pages(ROOT)
RUNBOOKS = [page for page in PAGES if page.is_relative_to(ROOT / "docs" / "runbooks")]
RUN = [page for page in PAGES if page == ROOT / "README.md" or page.is_relative_to(ROOT / "docs")]
RUN = [page for page in RUN if page not in RUNBOOKS]

# Every setting, feature flag and input that the five sources name.
SOURCE_SETTINGS = [
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_KMS_CMK_ID",
    "KMS_KEY_ID",
    "KMS_SECRETS_KEY_ID",
    "KMS_KEY_ALIAS",
    "AWS_KMS_CLIENT",
    "SEARCH_HASH_SALT",
    "ENCRYPTION_CACHE_TTL",
    "SENSITIVE_DATA_AUDIT",
    "ENCRYPTION_KEY_ROTATION_DAYS",
    "kms_encryption_enabled",
    "enableComplianceChecks",
    "DEK_CACHE_TTL",
    "CACHE_TTL",
    "cacheTimeout",
    "defaultTTL",
    "maxCacheSize",
    "hashAlgorithm",
    "algorithm",
    "NODE_ENV",
    "region",
    "enable_key_rotation",
    "deletion_window_in_days",
    "deletion_window_days",
    "multi_region",
    "environment",
    "lambda_role_arns",
    "fargate_role_arns",
    "security_account_id",
    "logs_account_id",
    "tags",
    "storage_encrypted",
    "kms_key_id",
    "rds.force_ssl",
    "sse_algorithm",
    "kms_master_key_id",
    "bucket_key_enabled",
    "at_rest_encryption_enabled",
    "transit_encryption_enabled",
    "rejectUnauthorized",
    "httpsOptions",
]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _error_classes() -> list[type[LacreError]]:
    found = [
        item
        for _, item in inspect.getmembers(errors, inspect.isclass)
        if issubclass(item, LacreError)
    ]
    assert len(found) > 20
    return found


def test_every_document_has_a_page() -> None:
    """The documents that the project promises exist, so an empty search cannot pass the rest."""
    promised = {"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"} | {
        f"docs/{name}.md"
        for name in ("coverage", "errors", "glossary", "threat-model", "reference/settings")
    }

    assert promised <= {_name(page) for page in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_link_is_dead(page: Path) -> None:
    """Every relative link and anchor of every page leads somewhere inside the repository."""
    assert dead_links(page, ROOT) == []


@pytest.mark.parametrize("page", RUN, ids=_name)
def test_examples_run(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks of README and docs run, in order, in an empty directory."""
    text = page.read_text("utf-8")
    if "--database postgresql:// " in text or 'psycopg.connect("")' in text:
        for name, value in request.getfixturevalue("database").variables().items():
            monkeypatch.setenv(name, value)
    if "\n$ bao " in page.read_text("utf-8"):
        for name, value in request.getfixturevalue("openbao").variables().items():
            monkeypatch.setenv(name, value)
    # Where a page calls `lacre` itself, it is the one that is tested.
    beside = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", os.pathsep.join((beside, os.environ["PATH"])))
    ran = run_page(page, tmp_path)

    assert ran == sum(
        block.language in ("python", "toml", "json") or "run" in block.flags
        for block in blocks(page.read_text("utf-8"))
    )


@pytest.mark.parametrize("page", RUNBOOKS, ids=_name)
def test_runbooks_lead_where_they_say(
    page: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of a runbook that takes no people is run, in order, where what it is about has happened."""
    for name, value in strike(shop, page.stem).items():
        monkeypatch.setenv(name, value)
    ran = run_page(page, shop, call)

    assert ran == sum("run" in block.flags for block in blocks(page.read_text("utf-8"))) > 3


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_no_document_names_a_machine(page: Path) -> None:
    """No page holds a path of somebody's own machine."""
    found = re.findall(r"(?<![\w.~/-])/(?:work|root|home|tmp)/[\w.-]+", page.read_text("utf-8"))

    assert found == []


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """The picture of the error tree has every class, under its own base, and no other."""
    text = inspect.cleandoc(errors.__doc__ or "")
    tree = text[text.index("LacreError\n") :]
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for indent, name in re.findall(r"^( *)([A-Z]\w+)(?= {2,}|$)", tree, re.MULTILINE):
        above = [entry for entry in above if entry[0] < len(indent)]
        drawn[name] = above[-1][1] if above else None
        above.append((len(indent), name))

    assert drawn == {
        item.__name__: item.__base__.__name__ if item is not LacreError and item.__base__ else None
        for item in _error_classes()
    }


def test_every_error_is_public() -> None:
    """`__all__` of the error module is its classes."""
    assert set(errors.__all__) == {item.__name__ for item in _error_classes()}


def test_every_code_is_unique_and_its_own() -> None:
    """No two errors share a code, and none inherits its base's."""
    codes = [item.__dict__.get("code") for item in _error_classes()]

    assert None not in codes
    assert len(set(codes)) == len(codes)


def test_every_error_has_its_section_and_every_section_its_error() -> None:
    """The sections of docs/errors.md are the codes, each anchor is a code, each section names its class."""
    text = (ROOT / "docs/errors.md").read_text("utf-8")
    headings = [(number, line[3:]) for number, line in prose(text) if line.startswith("## ")]
    lines = text.splitlines()
    sections = {
        code: "\n".join(lines[start:end])
        for (start, code), (end, _) in pairwise([*headings, (len(lines) + 1, "")])
    }

    assert set(sections) == {item.code for item in _error_classes()}
    assert set(sections) <= anchors(text)
    for item in _error_classes():
        assert f"`{item.__name__}`" in sections[item.code], item.code
        if item is not LacreError:
            for part in ("**Raised**", "**Do**", "**Example**"):
                assert part in sections[item.code], (item.code, part)


def test_a_retryable_error_says_so_and_no_other_does() -> None:
    """The page marks as retryable exactly the classes that are."""
    text = (ROOT / "docs/errors.md").read_text("utf-8")
    marked = re.findall(r"^## (\S+)\n\n`\w+`[^\n]*retryable", text, re.MULTILINE)

    assert set(marked) == {item.code for item in _error_classes() if item.retryable}


def test_hints_link_to_sections_that_exist() -> None:
    """An anchor of docs/errors.md that the code prints is one of its anchors."""
    found = anchors((ROOT / "docs/errors.md").read_text("utf-8"))
    named = {
        anchor
        for path in (ROOT / "src").rglob("*.py")
        for anchor in re.findall(r"docs/errors\.md#([\w-]+)", path.read_text("utf-8"))
    }

    assert "tampered" in named
    assert named <= found


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_named_exists(page: Path) -> None:
    """A `lacre` command in a page, on a line that does not say "planned", answers to --help."""
    named = {words for _, words in commands(page.read_text("utf-8"))}
    if not named:
        return
    missing = [
        "lacre " + " ".join(words)
        for words in sorted(named)
        if CliRunner().invoke(app, [*words, "--help"]).exit_code
    ]

    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_make_target_named_exists(page: Path) -> None:
    """A `make` target in a page is one of the Makefile's."""
    named = {
        target
        for _, line in prose(page.read_text("utf-8"))
        if "planned" not in line
        for target in re.findall(r"`make ([a-z-]+)`", line)
    }
    makefile = ROOT / "Makefile"
    if not named:
        return

    assert named <= set(re.findall(r"^([a-z-]+):", makefile.read_text("utf-8"), re.MULTILINE))


def _coverage_rows() -> list[list[str]]:
    text = (ROOT / "docs/coverage.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for _, line in prose(text)
        if re.match(r"\| (?:\d\.\d+|A\d+) ", line)
    ]
    assert len(rows) > 400
    return rows


def test_every_row_of_the_coverage_has_a_known_status() -> None:
    """A row is done, planned for a subject the page lists, or refused with a reason."""
    text = (ROOT / "docs/coverage.md").read_text("utf-8")
    subjects = set(re.findall(r"^\* \*\*(.+?)\*\*:", text, re.MULTILINE))

    assert len(subjects) > 5
    for row in _coverage_rows():
        identity, statement, ours, status, where = row
        assert statement, identity
        assert ours, identity
        if status.startswith("planned: "):
            assert set(status.removeprefix("planned: ").split(", ")) <= subjects, identity
        else:
            assert status in {"done", "refused"}, identity
        assert (status == "done") <= (where != "—"), f"{identity} is done and names no test"


def test_what_is_done_names_a_test() -> None:
    """A row that says done links to a test file."""
    for identity, _, _, status, where in _coverage_rows():
        if status == "done":
            assert re.search(r"\]\(\.\./tests/[\w/]+\.py\)", where), identity


def test_the_rows_of_the_coverage_are_numbered_once() -> None:
    """No two rows share a number, and none of the 56 mistakes is left out."""
    numbers = [row[0] for row in _coverage_rows()]

    assert len(set(numbers)) == len(numbers)
    assert {f"A{number}" for number in range(1, 57)} <= set(numbers)


def test_every_setting_of_the_sources_is_mapped() -> None:
    """Each setting name that a source uses has a row of its own in the settings page."""
    text = (ROOT / "docs/reference/settings.md").read_text("utf-8")
    mapped = {
        name
        for _, line in prose(text)
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }

    assert [name for name in SOURCE_SETTINGS if name not in mapped] == []


def _settings_of(model: type[BaseModel], path: str = "") -> set[str]:
    """The settings of a model, as the page writes them: tables joined by dots, names as NAME."""
    found = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        name = field.alias or name
        if type(None) in get_args(inner):  # a table that may be missing
            inner = next(each for each in get_args(inner) if each is not type(None))
        named = get_origin(inner) is dict
        if named:
            inner = get_args(inner)[1]
        where = f"{path}{name}.NAME" if named else f"{path}{name}"
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner.model_fields:
            found |= _settings_of(inner, where + ".")
        else:
            found.add(where if named and isinstance(inner, type) else path + name)
    return found


def test_the_page_of_settings_is_the_model() -> None:
    """Every setting of lacre.toml has its row, every row its setting, and the overlay is the overlay."""
    text = (ROOT / "docs/reference/lacre-toml.md").read_text("utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for _, line in prose(text)
        if line.startswith("| `")
    ]

    assert {row[0].strip("`") for row in rows} == _settings_of(PolicyFile)
    assert {
        row[3].strip("`"): tuple(row[0].strip("`").split(".")) for row in rows if row[3]
    } == dict(OVERLAY)


def test_the_example_of_settings_is_a_policy() -> None:
    """The whole example of the settings page is accepted."""
    (example,) = [
        block
        for block in blocks((ROOT / "docs/reference/lacre-toml.md").read_text("utf-8"))
        if block.language == "toml"
    ]

    assert set(parse_policy(example.text, {}).classes) == {"pii", "banking"}


def test_every_word_of_the_glossary_is_used_as_law() -> None:
    """The glossary has a row for each kind of key, state and right that the code knows."""
    text = (ROOT / "docs/glossary.md").read_text("utf-8")

    for word in (
        "branch key",
        "data key",
        "subject key",
        "index root",
        "key store",
        "key resolver",
        "wrap context",
        "field context",
        "column state",
        "blind index",
        "look",
    ):
        assert re.search(rf"^\|[^|]*\b{word}\b[^|]*\|", text, re.MULTILINE), word


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=_name)
def test_no_name_breaks_the_glossary(path: Path) -> None:
    """No parameter, function or module is called by a word that the glossary refuses."""
    tree = ast.parse(path.read_text("utf-8"))
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    names = {node.name for node in functions}
    names |= {
        argument.arg
        for node in functions
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    }

    assert not {name for name in names if {"aad", "dek", "kek"} & set(name.split("_"))}
    assert path.stem not in {"utils", "helpers", "manager", "common", "base"}
