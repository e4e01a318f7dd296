"""Nothing in the package runs what it reads: no pickle, no eval, no shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for folder in ("dance_ondevice", "daemon", "policies") for path in (ROOT / folder).rglob("*.py")
)

#: Modules whose loading runs code that stands in the data.
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "codeop",
}
PICKLE = ("pickle", None)
CALLS = {"eval", "exec", "compile", "__import__"}


def offences(source: str) -> Iterator[str]:
    """What in a module would run, or unpickle, something from outside."""
    tree = ast.parse(source)
    # Its errors may be caught by name: that is how torch.load(weights_only=True) refuses.
    caught = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and dotted(node) == "pickle.UnpicklingError"
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name.split(".")[0] for alias in node.names if (alias.name, alias.asname) != PICKLE}
        elif isinstance(node, ast.ImportFrom):
            names = {(node.module or "").split(".")[0]}
        else:
            names = set()
        yield from (f"import {name}" for name in names & MODULES)
        if isinstance(node, ast.Name) and node.id == "pickle" and id(node) not in caught:
            yield "pickle"
        if isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[str]:
    options = {word.arg: word.value for word in node.keywords}
    name = dotted(node.func)
    if name in CALLS or name in {f"builtins.{call}" for call in CALLS}:
        yield name
    if name == "torch.load" and not _is(options.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if name in {"np.load", "numpy.load"} and "allow_pickle" in options:
        yield "numpy.load with allow_pickle"
    if name in {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}:
        yield name
    if "shell" in options and not _is(options["shell"], False):
        yield f"{name} with a shell"
    if name.endswith((".recv_pyobj", ".send_pyobj")) or name in {"yaml.load", "yaml.unsafe_load"}:
        yield name


def dotted(node: ast.expr) -> str:
    """``a.b.c`` as it is written; what is not a name becomes "?"."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.slow
def test_no_module_runs_anything_from_outside() -> None:
    found = {str(path.relative_to(ROOT)): list(offences(path.read_text())) for path in SOURCES}
    assert {path: offending for path, offending in found.items() if offending} == {}


def test_the_whole_package_is_looked_at() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in SOURCES}
    assert {
        "dance_ondevice/models/checkpoint.py",
        "daemon/wire/codec.py",
        "daemon/supervisor.py",
        "policies/stream/retention.py",
        "daemon/trainer/main.py",
    } <= names


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(data)",
        "import pickle\nload = getattr(pickle, 'load')",
        "import os, pickle as p",
        "from pickle import loads",
        "def f():\n    from cloudpickle import load",
        "eval('1')",
        "exec(text)",
        "__import__(name)",
        "import builtins\nbuiltins.eval('1')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "socket.recv_pyobj()",
    ],
)
def test_what_would_be_found(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\ntry:\n    f()\nexcept pickle.UnpicklingError:\n    pass",
        "model.eval()",
        "re.compile('x')",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "connection.exec(x)",
    ],
)
def test_what_is_fine(source: str) -> None:
    assert list(offences(source)) == []
