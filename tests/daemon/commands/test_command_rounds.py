from __future__ import annotations

from typing import Any

import pytest

from dance_ondevice.daemon.cli import WorkFailed
from dance_ondevice.daemon.commands import rounds
from dance_ondevice.daemon.commands.rounds import RESULT_KEYS, await_request
from dance_ondevice.daemon.system.state import StatePaths

DONE = {
    "state": "done",
    "round": "r1",
    "outcome": "rejected",
    "miou_before": 0.25,
    "miou_after": 0.125,
    "miou_frozen": 0.5,
    "joules": 33.0,
    "method": "modelled",
    "reasons": ["mIoU fell from 0.250 to 0.125"],
    "steps": 12,
}


class Daemon:
    """Answers as rounds do: queued, running, then the given end."""

    def __init__(self, end: dict[str, Any]) -> None:
        self.answers = [{"state": "queued"}, {"state": "running"}, end]
        self.asked: list[dict[str, object]] = []

    def handlers(self) -> dict[str, Any]:
        return {"train_now": lambda _: {"request": 5}, "train_status": self.status}

    def status(self, query: dict[str, object]) -> dict[str, Any]:
        self.asked.append(query)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "_POLL_SECONDS", 0.0)


def test_a_rejected_round_ran(run, run_json, serve, paths: StatePaths):
    daemon = Daemon(DONE)
    serve(daemon.handlers())
    answer = run_json("train-now", "--wait", "--state-dir", str(paths.root))
    assert answer == {key: value for key, value in DONE.items() if key != "state"}
    assert set(RESULT_KEYS) <= answer.keys()
    assert daemon.asked == [{"request": 5}] * 3
    output = run("train-now", "--wait", "--state-dir", str(paths.root)).stdout
    for text in ("rejected", "0.25", "0.125", "33 (modelled)", "- mIoU fell from 0.250 to 0.125"):
        assert text in output


def test_a_wait_tells_how_far_it_is_and_the_output_is_the_result_alone(run, serve, paths: StatePaths):
    serve(Daemon(DONE).handlers())
    result = run("train-now", "--wait", "--state-dir", str(paths.root))
    assert "waits for what runs now" in result.stderr
    assert "waits" not in result.stdout


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {"state": "running"},
            "the round is prepared: samples, joules, trainer, which yields to others (training.priority)",
        ),
        (
            {
                "state": "running",
                "progress": {"step": 3, "steps": 9, "miou": 0.25, "live_miou": 0.125, "joules": 21.5},
            },
            "step 3 of 9; mIoU so far 0.25, live 0.125; 21.5 J",
        ),
        ({"state": "running", "progress": {"step": 9, "steps": 9}}, "step 9 of 9, being judged"),
        ({"state": "queued", "progress": {"step": 2, "steps": 9}}, "waits for what runs now; step 2 of 9"),
    ],
)
def test_how_far_a_request_is(answer: dict[str, Any], words: str):
    assert rounds.in_words(answer) == words


def test_a_promoted_round_exits_0(run_json, serve, paths: StatePaths):
    serve(Daemon({**DONE, "outcome": "promoted"}).handlers())
    args = ("train-now", "--wait", "--state-dir", str(paths.root))
    assert run_json(*args)["outcome"] == "promoted"


@pytest.mark.parametrize("outcome", ["failed", "stopped", "refused"])
def test_a_round_that_did_not_run_to_its_end_exits_1(run_json, serve, paths: StatePaths, outcome: str):
    serve(Daemon({"state": "done", "outcome": outcome, "reasons": ["why"]}).handlers())
    answer = run_json("train-now", "--wait", "--state-dir", str(paths.root), code=1)
    assert answer == {**dict.fromkeys(RESULT_KEYS), "outcome": outcome, "reasons": ["why"]}


def test_without_wait_the_request_is_printed(run, run_json, serve, paths: StatePaths):
    daemon = Daemon(DONE)
    serve(daemon.handlers())
    assert run_json("train-now", "--state-dir", str(paths.root)) == {"request": 5}
    assert "request 5" in run("train-now", "--state-dir", str(paths.root)).stdout
    assert daemon.asked == []


def test_a_timeout_needs_a_wait(run):
    assert "--timeout needs --wait" in run("train-now", "--timeout", "5", code=2).stderr


def test_waiting_ends_at_the_timeout(serve, paths: StatePaths):
    serve({"train_status": lambda _: {"state": "running"}})
    clock = iter([0.0, 1.0, 2.0, 3.0])
    slept: list[float] = []
    with pytest.raises(WorkFailed, match="running after 3 s; it goes on"):
        await_request(paths, 1, 3.0, monotonic=lambda: next(clock), sleep=slept.append)
    assert len(slept) == 2


def test_a_daemon_that_stops_meanwhile_is_told(run, serve, paths: StatePaths):
    serve({"train_now": lambda _: {"request": 5}})
    errors = run("train-now", "--wait", "--state-dir", str(paths.root), code=1).stderr
    assert "unknown command 'train_status'" in errors


def test_an_answer_that_is_none_is_told(run, serve, paths: StatePaths):
    serve({"train_now": lambda _: {"request": 5}, "train_status": lambda _: None})
    errors = run("train-now", "--wait", "--state-dir", str(paths.root), code=1).stderr
    assert "does not know request 5" in errors


@pytest.mark.parametrize("command", ["pause", "resume"])
def test_pause_and_resume_are_passed_on(run, serve, paths: StatePaths, command: str):
    called: list[str] = []
    serve({name: lambda _, name=name: called.append(name) for name in ("pause", "resume")})
    run(command, "--state-dir", str(paths.root))
    assert called == [command]
