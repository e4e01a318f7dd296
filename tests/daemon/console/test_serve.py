"""What waits for a request that does not come."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from dance_ondevice.daemon.console.serve import Listen, PatientProtocol, Renewal, _bound

WAIT = 60
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Impatient(PatientProtocol):
    patience = 0.02


async def answers_of(*sent: bytes) -> list[bytes]:
    """What comes back over connections that send this and then no more, until they are closed.

    A request is answered once all the other connections are closed.
    """
    others_closed = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await others_closed.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(
            app, http=Impatient, ws="none", loop="asyncio", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([bound]))

        async def talk(data: bytes) -> bytes:
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            writer.write(data)
            answer = await asyncio.wait_for(reader.read(), WAIT)
            writer.close()
            return answer

        asked = [asyncio.create_task(talk(data)) for data in sent if GET in data]
        silent = [asyncio.create_task(talk(data)) for data in sent if GET not in data]
        await asyncio.wait_for(asyncio.gather(*silent), WAIT)
        others_closed.set()
        answers = await asyncio.gather(*silent, *asked)
        server.should_exit = True
        await serving
        return answers


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_renewed_certificate_is_served_once_both_files_are_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def make(name: str) -> tuple[Path, Path]:
        certificate, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-nodes", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(certificate)),
            ],
            check=True,
            capture_output=True,
        )
        return certificate, key

    served, new = make("board"), make("new")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*served)
    renewal = Renewal(context, *served)

    async def shown() -> str:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        async with server:
            where = server.sockets[0].getsockname()
            return await asyncio.to_thread(ssl.get_server_certificate, where)

    first = served[0].read_text()
    renewal.look()
    assert asyncio.run(shown()).split() == first.split()
    new[0].replace(served[0])
    renewal.look()  # in the midst of a renewal: certificate and key do not go together
    assert "cannot be used" in caplog.text
    assert asyncio.run(shown()).split() == first.split()
    new[1].replace(served[1])
    renewal.look()
    assert asyncio.run(shown()).split() == served[0].read_text().split() != first.split()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_viewer_that_left_the_network_is_noticed(host: str) -> None:
    """Linux hands the listening socket's timeout on to what it accepts."""
    with _bound(Listen(host=host, port=0)) as bound:
        bound.listen()
        with socket.create_connection(bound.getsockname()[:2]):
            accepted, _ = bound.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


def test_a_connection_that_asks_for_nothing_is_closed_and_a_slow_answer_is_not() -> None:
    nothing, half_a_head, answer, two_answers = asyncio.run(
        answers_of(b"", GET[:-2], GET, GET + GET + b"GET / HT")
    )
    assert nothing == half_a_head == b""
    assert answer.startswith(b"HTTP/1.1 200")
    # What comes after a request that was answered gets no longer than what comes first.
    assert two_answers.count(b"HTTP/1.1 200") == 2
