"""The doctor's checks of the service: its unit, its keys, and its access to the energy counters."""

from __future__ import annotations

import grp
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.config.values import is_loopback, tcp_host
from dance_ondevice.daemon.doctor.finding import Check

UNIT = "dance-ondevice.service"
#: The group of the energy counters, which the unit joins.
ENERGY_GROUP = "dance-energy"
#: Exposure, from 0 to 10, above which `systemd-analyze security` shows that hardening was removed.
MOST_EXPOSED = 2.0

_SYSTEMD = Path("/run/systemd/system")

#: Runs a command and returns its output; raises ``OSError`` when it cannot be run or fails.
Run = Callable[[Sequence[str]], str]


def run_command(command: Sequence[str]) -> str:
    """The output of a command.

    Raises:
        OSError: The command is not installed, takes too long or fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=20, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{command[0]} did not answer") from error
    if done.returncode:
        raise OSError(f"{command[0]}: {(done.stderr or done.stdout).strip() or done.returncode}")
    return done.stdout


def check_unit(run: Run = run_command, systemd: Path = _SYSTEMD) -> Check:
    """Check that the service is installed, starts with the board, runs, and kept its hardening."""
    name = "unit"
    if not systemd.is_dir() or shutil.which("systemctl") is None:
        return Check(name, "ok", "systemd does not run here")
    wanted = ("LoadState", "UnitFileState", "ActiveState", "Result", "NRestarts", "NeedDaemonReload")
    try:
        shown = run(["systemctl", "show", UNIT, *(f"--property={item}" for item in wanted)])
    except OSError as error:
        return Check(name, "warning", str(error), "ask again as a user who may talk to systemd")
    facts = dict(line.split("=", maxsplit=1) for line in shown.splitlines() if "=" in line)
    detail = (
        f"{UNIT} is {facts.get('ActiveState', 'unknown')} and {facts.get('UnitFileState') or 'not enabled'}"
    )
    if facts.get("LoadState") != "loaded":
        remedy = "install it with `make install-service` (docs/installation.md)"
        return Check(name, "warning", f"{UNIT} is {facts.get('LoadState', 'unknown')}", remedy)
    if facts.get("ActiveState") == "failed":
        reason = f"{detail} ({facts.get('Result')}, after {facts.get('NRestarts')} restarts)"
        return Check(
            name, "failure", reason, f"journalctl -u {UNIT} -e says why; then systemctl start {UNIT}"
        )
    if facts.get("NeedDaemonReload") == "yes":
        return Check(
            name, "warning", f"{detail}; its file has changed", f"systemctl daemon-reload; restart {UNIT}"
        )
    if facts.get("UnitFileState") != "enabled":
        return Check(name, "warning", detail, f"systemctl enable {UNIT} has it start with the board")
    return _check_hardening(name, detail, run)


def _check_hardening(name: str, detail: str, run: Run) -> Check:
    try:
        said = run(["systemd-analyze", "security", "--no-pager", UNIT])
    except OSError:  # an older systemd, or a tool that is missing: no problem is known
        return Check(name, "ok", detail)
    match = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    if match is None:
        return Check(name, "ok", detail)
    detail = f"{detail}, exposure {match[1]} of 10"
    if float(match[1]) > MOST_EXPOSED:
        remedy = f"systemctl cat {UNIT} shows which drop-in takes hardening back (docs/installation.md)"
        return Check(name, "warning", detail, remedy)
    return Check(name, "ok", detail)


def check_keys(config: Config, environ: Mapping[str, str], state_dir: Path | None = None) -> Check:
    """Check that CURVE's keys are usable and private; without CURVE, that no traffic leaves the board.

    Args:
        config: The whole configuration.
        environ: The environment, in which systemd names its credentials.
        state_dir: The state folder; its owner is the daemon's user, who may own the keys.
    """
    name, security = "keys", config.security
    if not security.curve:
        remote = [bind for bind in _binds(config) if not is_loopback(tcp_host(bind) or "localhost")]
        if remote:
            remedy = "set security.curve = true and make keys with `dance-ondevice keys generate`"
            return Check(
                name, "warning", f"frames and masks are sent in the clear at {', '.join(remote)}", remedy
            )
        return Check(name, "ok", "not needed: no address can be reached from other machines")
    from dance_ondevice.daemon.security.curve import load_server
    from dance_ondevice.daemon.security.keys import (
        CLIENTS,
        CREDENTIALS_VARIABLE,
        SECRET_SUFFIX,
        KeysError,
        trusted_owners,
    )

    if not security.keys_dir and not environ.get(CREDENTIALS_VARIABLE):
        remedy = f"systemctl show {UNIT} --property=LoadCredential lists what it is given"
        return Check(name, "warning", "systemd hands them over, which cannot be seen from here", remedy)
    try:
        users = {state_dir.stat().st_uid} if state_dir is not None and state_dir.exists() else set()
        keys = load_server(security.keys_dir, environ, trusted_owners() | users)
    except (KeysError, OSError) as error:
        return Check(
            name, "failure", str(error), "docs/installation.md shows how keys are made and handed over"
        )
    known = len(keys.clients.known)
    detail = f"the server's are sound, {known} client{'' if known == 1 else 's'} known"
    if keys.clients.faults:
        reasons = "; ".join(dict.fromkeys(keys.clients.faults.values()))
        return Check(name, "warning", f"{detail}; left out: {reasons}", "mend or remove those files")
    left = sorted(path.name for path in (Path(security.keys_dir) / CLIENTS).glob(f"*{SECRET_SUFFIX}"))
    if left and security.keys_dir:
        remedy = f"move them to the clients' own machines: {', '.join(left)}"
        return Check(name, "warning", f"{detail}; secret keys of clients still lie here", remedy)
    if not known:
        return Check(name, "warning", detail, "nobody can send: dance-ondevice keys generate --client NAME")
    return Check(name, "ok", detail)


def check_meter_rights(
    sysfs: Path, user: int, group: Callable[[str], int | None] | None = None
) -> Check | None:
    """As root, check that the service's user can read the energy counters too; None where there are none.

    Args:
        sysfs: Where sysfs is mounted.
        user: Effective user id; a user other than root has found out by trying.
        group: Returns the id of a group by its name.
    """
    counters = sorted((sysfs / "class" / "powercap").glob("intel-rapl:*/energy_uj"))
    if user != 0 or not counters:
        return None
    number = (group or _group)(ENERGY_GROUP)
    refused = [path for path in counters if not _readable(path, number)]
    if refused:
        remedy = "run `make install-service`, or install the udev rule and the group (docs/energy.md)"
        return Check("meter rights", "warning", f"{refused[0]} is root's alone", remedy)
    return Check("meter rights", "ok", f"group {ENERGY_GROUP} may read the energy counters")


def _readable(path: Path, group: int | None) -> bool:
    found = path.stat()
    return bool(found.st_mode & 0o004) or (found.st_gid == group and bool(found.st_mode & 0o040))


def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _binds(config: Config) -> list[str]:
    masks = [config.inference.publish] if config.inference.enabled else []
    return [*config.ingest.bind, *config.ingest.subscribe_bind, *masks]
