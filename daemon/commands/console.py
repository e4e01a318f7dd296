"""``dance-ondevice console``: pages in a browser that show what the daemon does and take labels."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from dance_ondevice.daemon.cli import WorkFailed, config_option, load_config, state_dir_option
from dance_ondevice.daemon.commands.access import target
from dance_ondevice.extras import install_command

if TYPE_CHECKING:
    from dance_ondevice.daemon.console.link import DaemonLink
    from dance_ondevice.daemon.system.state import StatePaths


@click.command(short_help="Serve pages that show what the daemon does and take labels.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:9748",
    show_default=True,
    help="Where to serve; another host than loopback needs TLS or security.allow_plain_remote.",
)
@click.option(
    "--tls-cert",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Certificate chain (PEM), for TLS.",
)
@click.option(
    "--tls-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its private key (PEM).",
)
@config_option
@state_dir_option
def console(
    *,
    listen: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    config_path: Path | None,
    state_dir: Path | None,
) -> None:
    """Serve pages that show what the daemon does and take labels.

    Prints its address, with the token that logs in, once it is ready; the token also lies in console.token in
    the state folder. The daemon may start, stop and start again meanwhile. Ctrl-C ends it.
    """
    from dance_ondevice.daemon.config.values import is_loopback, listen_address

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        host, port = listen_address(listen)
    except ValueError:
        raise click.UsageError(f"--listen {listen!r} is not HOST:PORT, such as 127.0.0.1:9748") from None
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    plain = not is_loopback(host) and tls_cert is None
    if plain and not load_config(config_path, state_dir).config.security.allow_plain_remote:
        raise click.UsageError(
            f"--listen {listen} can be reached by others, and without TLS they could read the token and see "
            "the cameras: give --tls-cert and --tls-key, set security.allow_plain_remote, or listen on "
            f"127.0.0.1 and look from elsewhere through `ssh -L {port}:127.0.0.1:{port} BOARD`"
        )
    try:
        from dance_ondevice.daemon.console.app import build
        from dance_ondevice.daemon.console.serve import Listen, serve
    except ModuleNotFoundError as error:
        raise WorkFailed(f"the console needs {error.name}: {install_command('console')}") from error
    import ssl

    from dance_ondevice.runtime.heap import few_arenas

    few_arenas()
    endpoint, read_token, first = _daemon(config_path, state_dir)
    where = Listen(host=host, port=port, certificate=tls_cert, key=tls_key)

    def ready(url: str) -> None:
        click.echo(f"{url}?token={quote(first)}" if first else url)

    try:
        with contextlib.suppress(KeyboardInterrupt):
            serve(build(endpoint, read_token, secure=where.secure), where, ready)
    except (OSError, ssl.SSLError) as error:
        said = f"cannot serve at {listen}: {error.strerror or error}"
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            said += "; end the console that runs there, or give another --listen"
        raise WorkFailed(said) from error


def _daemon(
    config_path: Path | None, state_dir: Path | None
) -> tuple[Callable[[], str | None], Callable[[DaemonLink], Awaitable[str | None]], str]:
    """Where the daemon is asked, how the token is read, and the token, empty where it is not known yet."""
    from dance_ondevice.daemon.control.console_access import (
        SOCKET_VARIABLE,
        TokenError,
        ensure_token,
        shared_socket,
    )

    shared = shared_socket(os.environ)
    if shared is not None:
        # A user of its own, which cannot read the state folder: the daemon tells the token.
        logging.getLogger(__name__).info("%s=%s", SOCKET_VARIABLE, shared)
        return (lambda: f"ipc://{shared}"), _told_token, ""
    paths = target(config_path, state_dir)
    try:
        token = ensure_token(paths)
    except TokenError as error:
        raise WorkFailed(str(error)) from error
    return (lambda: _published(paths)), _file_token(paths), token


def _published(paths: StatePaths) -> str | None:
    from dance_ondevice.daemon.control.instances import read_daemon_file

    try:
        found = read_daemon_file(paths)
    except PermissionError:
        return None
    return found.console if found else None


def _file_token(paths: StatePaths) -> Callable[[DaemonLink], Awaitable[str | None]]:
    from dance_ondevice.daemon.control.console_access import TokenError, read_token

    async def read(_: DaemonLink) -> str | None:
        try:
            return read_token(paths)
        except TokenError as error:
            logging.getLogger(__name__).warning("%s", error)
            return None

    return read


async def _told_token(link: DaemonLink) -> str | None:
    from dance_ondevice.daemon.console.link import NoDaemon, Refused

    try:
        return str((await link.ask("console_token"))["token"])
    except (NoDaemon, Refused):
        return None
