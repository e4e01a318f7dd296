"""Pages for the public library, from its docstrings: which modules there are, and what lacks one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

#: The method and the policies; the daemon is used by its commands and sockets, not imported.
PACKAGES = (
    "complexity",
    "learnt_loss",
    "images",
    "datasets",
    "label_formats",
    "energy",
    "models",
    "conditions",
    "slimming",
    "training",
    "runtime",
    "fleet",
    "base",
    "files",
    "documents",
    "charts",
    "ranks",
    "policies",
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
#: A further overload or a setter is described with the first of its name.
DESCRIBED_ELSEWHERE = {"overload", "setter"}


def module_files(package: Path) -> Iterator[Path]:
    """Yield the files of a module or package, a package's own file first."""
    if not package.is_dir():
        yield package.with_suffix(".py")
        return
    yield package / "__init__.py"
    for path in sorted(package.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            yield from module_files(path)
        elif path.suffix == ".py" and path.name != "__init__.py":
            yield path


def undocumented(tree: ast.Module | ast.ClassDef, inside: str = "") -> Iterator[tuple[int, str]]:
    """Yield line and name of each public class, function and method without a docstring."""
    for node in tree.body:
        if not isinstance(node, DEFINITIONS) or node.name.startswith("_"):
            continue
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in node.decorator_list}
        if marks & DESCRIBED_ELSEWHERE:
            continue
        if ast.get_docstring(node) is None:
            yield node.lineno, inside + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node, f"{node.name}.")


def missing_docstrings(root: Path) -> list[str]:
    """Return ``file:line: name`` of all that is public in the library and says nothing of itself."""
    return [
        f"{path.relative_to(root.parent)}:{line}: {name} has no docstring"
        for package in PACKAGES
        for path in module_files(root / package)
        for line, name in undocumented(ast.parse(path.read_text(encoding="utf-8")))
    ]


def write_pages(root: Path, out: Path) -> None:
    """Write a page for each package of the library in ``root`` into the folder ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        names = [_name(path, root) for path in module_files(root / package)]
        title = f"{root.name}.{package}"
        parts = [title, "=" * len(title), "", f".. automodule:: {names[0]}", "   :members:", ""]
        for name in names[1:]:
            heading = name.removeprefix(f"{title}.")
            parts += [heading, "-" * len(heading), "", f".. automodule:: {name}", "   :members:", ""]
        _write(out / f"{package}.rst", "\n".join(parts))


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _write(path: Path, text: str) -> None:
    # A page that is as it was keeps its time, and is not read again.
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
