# SPDX-License-Identifier: Apache-2.0
"""The house: what imports what, and what every module looks like."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lacre"
MODULES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = {"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint"}

each_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: str(path.relative_to(SOURCE))
)


def forbidden_names(tree: ast.AST) -> set[str]:
    """Names of forbidden builtins used at all, called or handed on, bare or through `builtins`."""
    bare = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    dotted = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and "builtins" in node.value.id
    }
    return (bare | dotted) & FORBIDDEN


def test_imports_follow_the_floors() -> None:
    """import-linter's contracts hold, and it checked some."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=ROOT,
        env={"PYTHONPATH": ":".join([str(ROOT / "src"), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports have an order, those inside functions included."""
    graph = grimp.build_graph("lacre", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}

    order = list(graphlib.TopologicalSorter(imports).static_order())
    assert (
        order.index("lacre.errors")
        < order.index("lacre._core.derive")
        < order.index("lacre._core.field")
    )


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "_core").glob("*.py")), ids=lambda path: path.name
)
def test_floor_1_uses_no_builtin_that_does_io_or_runs_text(path: Path) -> None:
    """import-linter sees imports only; the builtin `open` needs none."""

    assert not forbidden_names(ast.parse(path.read_text("utf-8")))


@pytest.mark.parametrize("code", ["open('x')", "f = open", "import builtins\nbuiltins.open('x')", "__builtins__.eval('1')", "print(1)"])  # fmt: skip
def test_the_check_of_builtins_finds_them(code: str) -> None:
    """The check above fails where it should."""

    assert forbidden_names(ast.parse(code))


@each_module
def test_a_module_is_shorter_than_500_lines(path: Path) -> None:
    """Past 500 lines it was two modules."""

    assert len(path.read_text("utf-8").splitlines()) <= 500


@each_module
def test_a_module_says_its_licence_and_what_it_is(path: Path) -> None:
    """Every module begins with the licence line and has a docstring."""
    text = path.read_text("utf-8")

    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n")
    assert ast.get_docstring(ast.parse(text))


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [
            "__all__"
        ]:
            return list(ast.literal_eval(node.value))
    return None


def kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff writes."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@each_module
def test_a_module_lists_its_public_names(path: Path) -> None:
    """Where something public is defined, a sorted `__all__` says what, and each name in it exists."""
    tree = ast.parse(path.read_text("utf-8"))
    names = exported(tree)
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }
    public = {name for name in defined if not name.startswith("_")}

    if path.name.startswith("_") and path.name != "__init__.py":
        return
    assert names is not None or not public
    assert names is None or names == sorted(set(names), key=kind)


@each_module
def test_a_module_imports_absolutely(path: Path) -> None:
    """No relative import, and no module whose name says nothing."""
    tree = ast.parse(path.read_text("utf-8"))

    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert path.stem not in {"utils", "helpers", "manager", "common", "base"}
