"""Whatever a page tells somebody to type is a command, with options, that the program has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dance_ondevice.daemon.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    if page.parent.name != "benchmarks"  # commands of the day on which something was measured
)
PROGRAM = re.compile(r"^(?:.*/)?dance-ondevice$")


def lines(text: str) -> Iterator[str]:
    """Yield what is typed: lines of blocks of shell or of no language, and inline code."""
    for block in re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
        if block[1] in ("", "sh"):
            yield from block[2].replace("\\\n", " ").splitlines()
    yield from re.findall(r"`(dance-ondevice [^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of the program in a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            start = next((i for i, said in enumerate(words) if PROGRAM.match(said)), None)
            if start is not None and words[:start] in ([], ["sudo"]):
                yield words[start + 1 :]
            words = []
        else:
            words.append(word)


def refusal(arguments: list[str]) -> str:
    """Why the program would not take these arguments, or nothing; values are not looked at."""
    command: click.Command = main
    context = click.Context(main)
    try:
        while True:
            _, arguments, _ = command.make_parser(context).parse_args(list(arguments))
            if not isinstance(command, click.Group) or not arguments:
                return ""
            found = command.get_command(context, arguments[0])
            if found is None:
                return f"no command {arguments[0]}"
            command, context, arguments = found, click.Context(found, parent=context), arguments[1:]
    except click.UsageError as error:
        return str(error)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one_of_the_program(page: Path) -> None:
    found = [
        call
        for line in lines(page.read_text())
        if "..." not in line and "[" not in line
        for call in calls(line)
    ]
    assert {" ".join(call): why for call in found if (why := refusal(call))} == {}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("sudo dance-ondevice doctor # a comment", ""),
        ("dance-ondevice samples list ; dance-ondevice samples explain ID", ""),
        ("x && dance-ondevice docter", "no command docter"),
        ("dance-ondevice energy --dayz 3 > out", "No such option"),
        ("dance-ondevice stream a b --fps", "requires an argument"),
    ],
)
def test_what_the_program_has_not_is_found(line: str, why: str) -> None:
    found = [refusal(call) for call in calls(line)]
    assert found
    assert all(one.startswith(why) if why.startswith("no") else why in one for one in found)
    assert any(found) == bool(why)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_index_of_torch_is_asked_for_torch_alone(page: Path) -> None:
    """Other packages are pinned to versions that such an index may lack, and pip then installs nothing."""
    installs = re.findall(r"pip install [^`\n]*--index-url[^`\n]*", page.read_text())
    assert [line for line in installs if "--no-deps" not in line.split()] == []
