"""docs/configuration.md tells of every key what the code holds to."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dance_ondevice.daemon.config.load import items, load, toml_value
from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.config.sections import Config

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "configuration.md").read_text()


def rows() -> dict[str, str]:
    """The table rows of the page by "section.key"."""
    found, section = {}, ""
    for line in PAGE.splitlines():
        if heading := re.fullmatch(r"## \[(\w+)\]", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)` \|", line):
            found[f"{section}.{row[1]}"] = line
    return found


@pytest.mark.parametrize(("key", "default"), list(items(Config())))
def test_every_key_is_documented(key: str, default: object):
    cells = [cell.strip() for cell in rows()[key].strip("|").split("|")]
    assert cells == [
        f"`{key.split('.')[1]}`",
        f"`{toml_value(default)}`",
        RULES[key].allowed,
        RULES[key].meaning,
    ]


def test_no_other_key_is_documented():
    assert list(rows()) == list(RULES)


def test_the_example_is_valid(tmp_path: Path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    site = tmp_path / "site.toml"
    site.write_text(example)
    assert load(site).config.daemon.state_dir == "/srv/dance"
