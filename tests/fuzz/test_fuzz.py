"""Inputs that nobody meant: only declared errors come out, and every refusal is counted by its reason.

``HYPOTHESIS_PROFILE=nightly`` tries thousands of inputs for each test; ``make fuzz`` does, and runs
``fuzz_run.py`` as well.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz_run import run
from fuzz_targets import CORPUS, PART_END, TARGETS, corpus, read_config, read_message, read_model_card
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ingest_harness import running
from mutations import mutate, mutate_value

from dance_ondevice.daemon.config.rules import RULES
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.system.state import StatePaths

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
few = settings(
    max_examples=5000 if NIGHTLY else 40,
    database=None,
    derandomize=not NIGHTLY,
    suppress_health_check=list(HealthCheck),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_read_or_refused(name: str) -> None:
    seeds = corpus(name)
    assert seeds
    # Most are valid: mutations of what is refused at once would reach little code.
    assert sum(TARGETS[name](data) is None for data in seeds) > 0
    assert {path.name.split("-")[0] for path in CORPUS.iterdir()} <= TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_mutated_inputs_cause_declared_errors_alone(name: str) -> None:
    findings: dict[str, str] = {}
    refused, _, reasons = run(name, 60, 2, findings)
    assert not findings
    assert refused == reasons.total() > 0


@few
@given(name=st.sampled_from(sorted(TARGETS)), data=st.binary(max_size=2000))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@few
@given(
    header=st.dictionaries(
        st.sampled_from(
            ["v", "camera", "seq", "captured_at", "encoding", "shape", "dtype", "msg", "label_for", "x"]
        ),
        json_values | st.sampled_from([1, "front", "jpeg", "raw", "uint8", [2, 4, 3]]),
    ),
    image=st.binary(max_size=64),
    more=st.lists(st.binary(max_size=64), max_size=3),
)
def test_any_header(header: dict[str, Any], image: bytes, more: list[bytes]) -> None:
    encoded = repr(header).replace("'", '"').replace("None", "null").encode("utf-8", "surrogatepass")
    read_message(PART_END.join([encoded, image, *more]))


@few
@given(key=st.sampled_from(sorted(RULES)), value=json_values)
def test_any_value_of_any_key(key: str, value: object) -> None:
    section, _, name = key.partition(".")
    read_config(f"[{section}]\n{name} = {_toml(value)}\n".encode("utf-8", "surrogatepass"))


@few
@given(
    card=st.dictionaries(st.sampled_from(["classes", "macs_at", "channels", "format", "sha256"]), json_values)
)
def test_any_card(card: dict[str, Any]) -> None:
    read_model_card(repr(card).replace("'", '"').replace("None", "null").encode("utf-8", "surrogatepass"))


def test_every_refusal_is_answered_and_counted_by_its_reason(tmp_path: Path) -> None:
    """Over real sockets: as many answers as messages, and the counters say what the answers say."""
    chance = random.Random(5)
    seeds = [data for data in corpus("message") if b'"v"' in data]
    store = Store(StatePaths(tmp_path / "state"), quota_bytes=1 << 30, min_free_bytes=0)
    (tmp_path / "state").mkdir()
    store.start()
    answers: Counter[str] = Counter()
    try:
        with running(store, max_pixels=1 << 16, max_message_bytes=1 << 20) as harness:
            client = harness.client()
            for number in range(2000 if NIGHTLY else 120):
                data = chance.choice(seeds)
                head, *parts = (mutate_value(chance, data) if number % 2 else data).split(PART_END)
                parts = [mutate(chance, part, seeds) if chance.random() < 0.5 else part for part in parts]
                if b'"msg"' in head or b'"terminate_flag"' in head or not head:
                    continue
                reply = client.ask(head, *parts)
                answers["ok" if reply.ok else reply.code or ""] += 1
            refusals = harness.recorder.refusals
            assert {**refusals} == {code: count for code, count in answers.items() if code != "ok"}
            assert answers["ok"] > 0
            assert len(refusals) > 3
    finally:
        assert store.stop(30)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"a{n} = {_toml(each)}" for n, each in enumerate(value.values())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "''" if value is None else repr(value).lower()
