"""How the packages are arranged: small folders, short files, names where they are defined, and tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("daemon", "policies", "dance_ondevice")
#: Links to packages that lie in folders of their own.
LINKS = {ROOT / "dance_ondevice" / "daemon", ROOT / "dance_ondevice" / "policies"}
MOST_MODULES = 15
MOST_LINES = 450
#: They hold the version of the distribution, and the refusal to be imported under a bare name.
MAY_HOLD_CODE = {"dance_ondevice/__init__.py", "daemon/__init__.py", "policies/__init__.py"}
#: Tests of all the rooms together: the daemon as a process.
NO_MIRROR = {"tests/daemon/whole"}
ROW = re.compile(r"^\| `(?P<module>[^`]+\.py)` \| (?P<tests>`.+`) \|$", re.MULTILINE)


def folders(package: str) -> Iterator[Path]:
    """The folders of a package, itself first."""
    waiting = [ROOT / package]
    while waiting:
        folder = waiting.pop()
        yield folder
        waiting += [
            inner
            for inner in folder.iterdir()
            if inner.is_dir() and inner not in LINKS and inner.name != "__pycache__"
        ]


def modules(package: str) -> list[Path]:
    """The modules of a package, without the ``__init__.py`` of its folders."""
    found = (path for folder in folders(package) for path in folder.glob("*.py"))
    return sorted(path for path in found if path.name != "__init__.py")


def inside(path: Path) -> str:
    """A path as it is written in the docs: from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def defined(tree: ast.Module) -> set[str]:
    """The names that a module defines itself at its top level, also behind an ``if`` or a ``try``."""
    names: set[str] = set()
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)
            }
        elif isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
            waiting += ast.iter_child_nodes(node)
    return names


def reexported(tree: ast.Module) -> set[str]:
    """The names that a module hands on: in its ``__all__`` and not its own, or imported ``as`` themselves."""
    listed = {
        str(item.value)
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AugAssign))
        and "__all__" in {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        for item in ast.walk(node.value)
        if isinstance(item, ast.Constant)
    }
    as_themselves = {
        alias.name
        for node in tree.body
        if isinstance(node, (ast.ImportFrom, ast.Import))
        for alias in node.names
        if alias.name in (alias.asname, "*")
    }
    return (listed - defined(tree)) | as_themselves


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_holds_no_more_modules_than_can_be_taken_in_at_a_glance(package: str) -> None:
    counts = {
        inside(folder): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in folders(package)
    }
    assert not {folder: count for folder, count in counts.items() if count > MOST_MODULES}


def test_no_file_is_too_long() -> None:
    files = [path for package in PACKAGES for folder in folders(package) for path in folder.glob("*.py")]
    files += (ROOT / "tests").rglob("*.py")
    lengths = {inside(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(lengths) > 300
    assert not {path: length for path, length in lengths.items() if length > MOST_LINES}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_folder_says_what_it_holds_and_nothing_else(package: str) -> None:
    for folder in folders(package):
        if not list(folder.glob("*.py")):
            continue
        init = folder / "__init__.py"
        assert init.is_file(), f"{inside(folder)} has no __init__.py"
        tree = ast.parse(init.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), f"{inside(init)} has no docstring"
        if inside(init) not in MAY_HOLD_CODE:
            assert len(tree.body) == 1, f"{inside(init)} holds more than a docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_imported_from_where_they_are_defined(package: str) -> None:
    found = {
        inside(path): reexported(ast.parse(path.read_text(encoding="utf-8"))) for path in modules(package)
    }
    assert not {path: sorted(names) for path, names in found.items() if names}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from a import b\n__all__ = ['b', 'c']\ndef c(): ...", {"b"}),
        ("from a import b as b", {"b"}),
        ("from a import *", {"*"}),
        ("try:\n    from a import b\nexcept ImportError:\n    b = None\n__all__ = ['b']", set()),
        ("import a\nX: int = 1\nY = Z = 2\nclass W: ...\n__all__ = ['W', 'X', 'Y', 'Z']", set()),
        ("from a import b\n__all__ = []\n__all__ += ['b']", {"b"}),
    ],
)
def test_reexports_are_found(text: str, names: set[str]) -> None:
    assert reexported(ast.parse(text)) == names


@pytest.mark.parametrize("package", ["daemon", "policies"])
def test_the_folders_of_the_tests_are_those_of_the_package(package: str) -> None:
    tested = {folder for folder in (ROOT / "tests" / package).iterdir() if list(folder.glob("test_*.py"))}
    unknown = {inside(folder) for folder in tested if not (ROOT / package / folder.name).is_dir()}
    assert unknown <= NO_MIRROR


def own_test(module: Path) -> Path | None:
    """The test module whose name holds a module's, in the mirrored folder or above it in the same room."""
    parts = module.parent.relative_to(ROOT).parts
    parts = parts[1:] if parts[0] == "dance_ondevice" else parts
    least = min(len(parts), 1 if module.is_relative_to(ROOT / "dance_ondevice") else 2)
    for depth in range(len(parts), least - 1, -1):
        for test in sorted((ROOT / "tests").joinpath(*parts[:depth]).glob("test_*.py")):
            if f"_{module.stem}_" in f"{test.stem}_":
                return test
    return None


def test_every_module_has_a_test_of_its_name_or_a_row_that_says_where_it_is_tested() -> None:
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    rows = {row["module"]: re.findall(r"`([^`]+)`", row["tests"]) for row in ROW.finditer(page)}
    assert list(rows) == sorted(rows), "the rows are in the order of their modules"
    every = {inside(module): module for package in PACKAGES for module in modules(package)}
    assert not set(rows) - set(every), "rows of docs/testing.md for modules that are not there"
    for name, tests in rows.items():
        for test in tests:
            assert (ROOT / "tests" / test).is_file(), f"docs/testing.md: {name}: no {test} in tests"
            assert Path(test).name.startswith("test_"), f"docs/testing.md: {name}: {test} is no test module"
    untold = [name for name, module in every.items() if name not in rows and own_test(module) is None]
    assert not untold, "add a test of its name, or to docs/testing.md: " + " ".join(
        f"| `{name}` | `where_it_is_tested.py` |" for name in untold
    )


def test_no_two_test_modules_share_a_name() -> None:
    """pytest collects them by their names alone, since their folders are no packages."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert not {name for name in names if names.count(name) > 1} - {"conftest.py"}
