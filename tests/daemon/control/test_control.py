from __future__ import annotations

import json
import os
import select
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from dance_ondevice.daemon.config.sections import Config, Control
from dance_ondevice.daemon.control import client
from dance_ondevice.daemon.control import server as control
from dance_ondevice.daemon.control.server import ControlError, ControlServer
from dance_ondevice.daemon.system.state import StatePaths


@pytest.fixture
def endpoint(tmp_path: Path) -> str:
    return f"ipc://{tmp_path / 'control.sock'}"


def refuse(_: dict[str, object]) -> object:
    raise ControlError("a round runs already")


def fail(query: dict[str, object]) -> object:
    return query["missing"]


@pytest.fixture
def server(endpoint: str) -> Iterator[ControlServer]:
    handlers = {
        "echo": lambda query: query,
        "refuse": refuse,
        "fail": fail,
        "unsendable": lambda _: object(),
    }
    service = ControlServer(endpoint, handlers)
    service.start()
    yield service
    assert service.stop()
    assert service.failure is None


def raw(endpoint: str, parts: list[bytes]) -> list[bytes]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(endpoint)
        channel.send_multipart(parts)
        assert channel.poll(5000)
        return channel.recv_multipart()


@pytest.mark.usefixtures("server")
def test_a_command_gets_its_result(endpoint: str):
    assert client.request(endpoint, "echo", number=1, text="é", none=None) == {
        "number": 1,
        "text": "é",
        "none": None,
    }


def test_a_wake_without_a_stop_is_over_after_one_turn(server: ControlServer, endpoint: str):
    server.wake()
    client.request(endpoint, "echo")
    assert server._waker is not None
    assert not select.select([server._waker.fileno()], [], [], 0)[0]


@pytest.mark.usefixtures("server")
def test_a_refusal_is_told_as_it_is(endpoint: str):
    with pytest.raises(client.CommandError, match=r"^a round runs already$"):
        client.request(endpoint, "refuse")


@pytest.mark.usefixtures("server")
def test_a_failing_handler_is_answered_and_not_fatal(endpoint: str):
    with pytest.raises(client.CommandError, match="KeyError: 'missing'"):
        client.request(endpoint, "fail")
    with pytest.raises(client.CommandError, match="TypeError"):
        client.request(endpoint, "unsendable")
    assert client.request(endpoint, "echo") == {}


@pytest.mark.usefixtures("server")
def test_an_unknown_command_names_the_known(endpoint: str):
    with pytest.raises(client.CommandError, match="'dance'; known: echo, fail, refuse, unsendable"):
        client.request(endpoint, "dance")


@pytest.mark.parametrize(
    "body",
    [
        [b""],
        [b"not json"],
        [b"\xff\xfe"],
        [b"[]"],
        [b"{}"],
        [b'{"cmd": 3}'],
        [b'{"cmd": "echo"}', b"more"],
        [],
        [b"[" * 100_000],
    ],
)
@pytest.mark.usefixtures("server")
def test_malformed_input_is_answered(endpoint: str, body: list[bytes]):
    *delimiter, reply = raw(endpoint, [b"", *body])
    assert delimiter == [b""]
    answer = json.loads(reply)
    assert answer["ok"] is False
    assert answer["error"]
    assert client.request(endpoint, "echo") == {}


@pytest.mark.usefixtures("server")
def test_a_sender_without_delimiter_gets_none_back(endpoint: str):
    (reply,) = raw(endpoint, [b'{"cmd": "echo", "a": 1}'])
    assert json.loads(reply) == {"ok": True, "result": {"a": 1}}


@pytest.mark.usefixtures("server")
def test_an_oversize_request_is_dropped_and_the_next_is_served(endpoint: str):
    with zmq.Context() as context, context.socket(zmq.DEALER) as channel:
        channel.linger = 0
        channel.connect(endpoint)
        channel.send_multipart([b"", bytes(2 << 20)])
        assert client.request(endpoint, "echo") == {}
        assert not channel.poll(0)


@pytest.mark.usefixtures("server")
def test_only_the_owner_may_open_the_socket(endpoint: str):
    mode = Path(endpoint.removeprefix("ipc://")).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.usefixtures("server")
def test_a_second_server_at_the_same_place_is_refused(endpoint: str):
    with pytest.raises(OSError, match="another daemon answers"):
        ControlServer(endpoint, {}).start()
    assert client.request(endpoint, "echo") == {}


def test_a_socket_left_by_a_killed_daemon_is_replaced(endpoint: str):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(endpoint.removeprefix("ipc://"))
    service = ControlServer(endpoint, {"echo": lambda query: query})
    service.start()
    assert client.request(endpoint, "echo") == {}
    assert service.stop()
    assert not Path(endpoint.removeprefix("ipc://")).exists()


def test_stopping_twice_and_before_the_start_is_harmless(endpoint: str):
    never = ControlServer(endpoint, {})
    assert never.stop()
    service = ControlServer(endpoint, {})
    service.start()
    assert service.stop()
    assert service.stop()


def test_nobody_at_the_endpoint_is_told_at_once(endpoint: str):
    with pytest.raises(client.NotRunning, match="start it with `dance-ondevice run`"):
        client.request(endpoint, "status", timeout=60)


def test_a_stale_socket_is_nobody(endpoint: str):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(endpoint.removeprefix("ipc://"))
    with pytest.raises(client.NotRunning, match="no daemon answers"):
        client.request(endpoint, "status", timeout=60)


def test_a_daemon_that_does_not_answer_is_given_up(endpoint: str):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(endpoint.removeprefix("ipc://"))
        silent.listen()
        with pytest.raises(client.NotRunning, match=r"'status' .* within 0.05 s"):
            client.request(endpoint, "status", timeout=0.05)


def test_an_unreadable_answer_is_an_error(endpoint: str):
    with zmq.Context() as context, context.socket(zmq.ROUTER) as other:
        other.linger = 0
        other.bind(endpoint)

        def answer() -> None:
            if other.poll(5000):
                sender, _, _ = other.recv_multipart()
                other.send_multipart([sender, b"", b"\xff"])

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(client.ClientError, match="cannot be read"):
            client.request(endpoint, "status")
        thread.join()


def config_with(endpoint: str) -> Config:
    return msgspec.structs.replace(Config(), control=Control(endpoint=endpoint))


def test_the_configured_endpoint_wins(tmp_path: Path):
    paths = StatePaths(tmp_path)
    assert control.default_endpoint(config_with("ipc:///run/x.sock"), paths, {}) == "ipc:///run/x.sock"
    assert control.default_endpoint(Config(), paths, {}) == f"ipc://{tmp_path}/control.sock"


def test_a_long_state_folder_puts_the_socket_into_the_runtime_folder(tmp_path: Path):
    runtime = tmp_path / "r"
    runtime.mkdir()
    environ = {"RUNTIME_DIRECTORY": str(runtime)}
    first = control.default_endpoint(Config(), StatePaths(Path("/" + "long/" * 30)), environ)
    second = control.default_endpoint(Config(), StatePaths(Path("/" + "lang/" * 30)), environ)
    assert Path(first.removeprefix("ipc://")).parent == runtime
    assert first != second
    longest = "/" + "x" * (control.MAX_SOCKET_PATH - len("/control.sock") - 1)
    assert control.default_endpoint(Config(), StatePaths(Path(longest)), environ).startswith(
        f"ipc://{longest}"
    )


def test_the_longest_path_takes_a_socket_and_a_longer_one_says_what_to_do(tmp_path: Path):
    room = control.MAX_SOCKET_PATH - len(os.fsencode(tmp_path)) - 1
    service = ControlServer(f"ipc://{tmp_path / ('x' * room)}", {"echo": lambda query: query})
    service.start()
    assert client.request(service.endpoint, "echo") == {}
    assert service.stop()
    with pytest.raises(OSError, match=r"set control\.endpoint"):
        ControlServer(f"ipc://{tmp_path / ('x' * (room + 1))}", {}).start()
    (tmp_path / "taken").touch()
    with pytest.raises(OSError, match=r"set control\.endpoint.*taken"):
        ControlServer(f"ipc://{tmp_path / 'taken'}", {}).start()
