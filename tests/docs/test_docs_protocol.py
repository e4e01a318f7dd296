"""docs/protocol.md tells of every code, and its examples are what the code reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

from dance_ondevice.daemon.config import sections
from dance_ondevice.daemon.system.state import sample_id
from dance_ondevice.daemon.wire import codec as wire
from dance_ondevice.daemon.wire.messages import FrameMessage, Reason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text()


def test_every_code_stands_in_the_documentation() -> None:
    documented = set(
        re.findall(r"^\| `([a-z_]+)` \|", PAGE.partition("| code |")[2].partition("\n\n")[0], re.M)
    )

    assert documented == set(get_args(Reason))


def test_examples_of_the_documentation_are_read() -> None:
    frame, kept, refused, mask, classes = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

    message = wire.parse([frame.encode(), b"an encoded image"], sections.Ingest())
    assert isinstance(message, FrameMessage)
    answer = wire.parse_reply(kept.encode())
    assert answer.id == sample_id(message.camera, message.captured_at, message.seq)
    assert (wire.parse_reply(refused.encode()).code, answer.ok) == ("encoding", True)
    assert wire.parse_mask([b"mask/front", mask.encode(), b"png"]).header.id == answer.id
    told = json.loads(classes)
    topic, made = wire.classes_message(told["camera"], told["classes"], told["model_version"])
    assert (topic, json.loads(made)) == (b"classes/front", told)
