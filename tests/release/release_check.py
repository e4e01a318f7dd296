"""What a release must stand: ``make release-check``, or this script with the Pythons to try.

Builds sdist and wheel, and with each Python installs the wheel alone into a new environment, runs ``doctor``
and a short demo from there, and opens a state folder of each earlier version. Writes ``dist/sbom.cdx.json``
(CycloneDX) and ``dist/licences.md`` of what was installed, and asks for known vulnerabilities. Each line is
ok, FAILED or NOT DONE, with the reason; the exit status is 0 only if all are ok. TORCH_INDEX_URL says where
torch comes from, as for make.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / "dist"
STATES = ROOT / "tests" / "states"
#: Minor versions that are looked for where none is named.
KNOWN = tuple(f"3.{minor}" for minor in range(10, 16))
DEMO_SECONDS = 120
PATIENCE = 1800
#: A daemon that opens the state of an earlier version: small frames, free ports, no masks.
OLD_SITE = """\
[daemon]
state_dir = "{state}"
[ingest]
bind = ["tcp://127.0.0.1:0"]
[storage]
min_free_bytes = 0
[model]
factory = "tiny_network:make"
size = [64, 48]
classes = {classes}
[training]
interval = "1d"
[inference]
enabled = false
[metrics]
enabled = false
"""
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist",
    "site", "demo-report",
)  # fmt: skip


class FailedError(Exception):
    """A step that did not come out as it must."""


class NotDoneError(Exception):
    """A step that could not be tried here."""


@dataclass(frozen=True)
class Step:
    """What came of one step: ok, FAILED or NOT DONE, and what is to be said of it."""

    name: str
    outcome: str
    note: str = ""


def step(name: str, work: Callable[[], str]) -> Step:
    """Do one step, and print what came of it at once."""
    began = time.monotonic()
    try:
        outcome, note = "ok", work()
    except FailedError as error:
        outcome, note = "FAILED", str(error)
    except NotDoneError as error:
        outcome, note = "NOT DONE", str(error)
    except Exception as error:  # whatever it is, the other steps are still to be tried
        outcome, note = "FAILED", repr(error)
    print(f"{outcome:9} {name} ({time.monotonic() - began:.0f} s){': ' if note else ''}{note}", flush=True)
    return Step(name, outcome, note)


def run(*words: object, cwd: Path = ROOT, environ: Mapping[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        FailedError: Its exit status was not 0; with its last lines.
    """
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if done.returncode:
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise FailedError(f"{Path(str(words[0])).name} ended with {done.returncode}: {last}")
    return done.stdout


def version_of(text: str) -> str:
    """Return the version that a text of ``__init__.py`` names, which is the only place that holds it."""
    (found,) = re.findall(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    return str(found)


def check_changelog(version: str, text: str) -> str:
    """Return the heading of a version's changes.

    Raises:
        FailedError: The newest changes are of another version, or undated.
    """
    first = next(line for line in text.splitlines() if line.startswith("## "))
    if not re.fullmatch(rf"## {re.escape(version)} - \d{{4}}-\d\d-\d\d", first):
        raise FailedError(f"CHANGELOG.md begins with {first!r}, not with '## {version} - YYYY-MM-DD'")
    return first.removeprefix("## ")


def read_audit(report: Mapping[str, Any]) -> str:
    """Return what an audit's JSON says, if it says that nothing is vulnerable.

    Raises:
        FailedError: A package has a known vulnerability.
        NotDoneError: Packages were not found where advisories are kept, so that nothing is known of them.
            pip-audit itself calls that "No known vulnerabilities found".
    """
    packages = report["dependencies"]
    bad = [
        f"{one['name']} {one['version']}: {vuln['id']}" for one in packages for vuln in one.get("vulns", ())
    ]
    if bad:
        raise FailedError(f"known vulnerabilities: {', '.join(bad)}")
    skipped = [one["name"] for one in packages if "skip_reason" in one and one["name"] != "dance-ondevice"]
    if skipped:
        raise NotDoneError(
            f"{len(skipped)} of {len(packages)} packages could not be looked up, such as {skipped[0]}: "
            "the index that is used here has no advisories; run it where https://pypi.org answers"
        )
    return f"{len(packages)} packages, no known vulnerability"


def pythons(named: Sequence[str]) -> list[str]:
    """Return the interpreters to try: those named, else every known version that is there and starts."""
    asked = named or [f"python{version}" for version in KNOWN]
    return list(named) if named else [name for name in asked if _starts(name)]


def _starts(name: str) -> bool:
    try:
        done = subprocess.run(
            [name, "-c", "import ensurepip, venv"], capture_output=True, check=False, timeout=60
        )
    except OSError:
        return False
    return done.returncode == 0


class Environment:
    """A new environment with the wheel alone, and a folder that is not the repository."""

    def __init__(self, python: str, home: Path) -> None:
        self._python, self._home = python, home
        self.venv = home / "venv"
        self._work = home / "elsewhere"
        self._work.mkdir(parents=True)

    @property
    def program(self) -> Path:
        return self.venv / "bin" / "dance-ondevice"

    def install(self, wheel: Path) -> str:
        """Install torch and then the wheel, with pinned versions."""
        run(self._python, "-m", "venv", self.venv, cwd=self._work)
        pip = (
            self.venv / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            ROOT / "constraints.txt",
        )
        run(*pip, "pip", cwd=self._work)
        (torch,) = re.findall(r"^torch==[^ ;\n]+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        index = os.environ.get("TORCH_INDEX_URL")
        run(*pip, *(("--index-url", index) if index else ()), "--no-deps", torch, cwd=self._work)
        run(*pip, wheel, cwd=self._work)
        run(self.venv / "bin" / "python", "-m", "pip", "check", cwd=self._work)
        version = version_of((ROOT / "dance_ondevice" / "__init__.py").read_text())
        said = run(self.program, "--version", cwd=self._work).strip()
        if version not in said:
            raise FailedError(f"--version says {said!r}, not {version}")
        return said

    def doctor(self) -> str:
        """Check the machine with a state folder that is not there yet."""
        found = json.loads(
            run(self.program, "doctor", "--json", "--state-dir", self._work / "state", cwd=self._work)
        )
        return f"{len(found)} checks" if isinstance(found, list) else f"{len(found['checks'])} checks"

    def demo(self) -> str:
        """Run a short demo."""
        out = self._work / "demo-report"
        run(self.program, "demo", "--max-seconds", DEMO_SECONDS, "--out", out, cwd=self._work)
        report = json.loads((out / "report.json").read_bytes())
        kept, seconds = report["frames"]["kept"], report["seconds"]
        return f"{kept} frames kept, {len(report['rounds'])} rounds, {seconds:.0f} s"

    def upgrade(self) -> str:
        """Open a copy of each earlier version's state folder: every sample is there, and it stops well."""
        told = []
        for old in sorted(STATES.glob("[0-9]*")):
            state = self._home / f"state-{old.name}"
            shutil.copytree(old, state)
            facts = json.loads((state / "made.json").read_bytes())
            (state / "made.json").unlink()
            for job in (state / "rounds").glob("*/job.json"):
                job.write_text(job.read_text().replace(facts["state_dir"], str(state)))
            told.append(f"{old.name}: {self._open(state, facts)}")
        return ", ".join(told)

    def _open(self, state: Path, facts: Mapping[str, Any]) -> str:
        site = self._home / "old.toml"
        classes = (
            json.loads((state / "classes.json").read_bytes()) if (state / "classes.json").exists() else None
        )
        text = OLD_SITE.format(state=state, classes=json.dumps(classes))
        site.write_text(text if classes else text.replace("classes = null\n", ""))
        environ = {"DANCE_CONFIG": str(site), "DANCE_MODEL_PATH": str(STATES)}
        log = self._home / "daemon.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [self.program, "run"],
                cwd=self._work,
                env={**os.environ, **environ},
                stdout=output,
                stderr=output,
            )
        try:
            deadline = time.monotonic() + PATIENCE
            while " ready " not in log.read_text():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise FailedError(f"the daemon did not open {state.name}: {log.read_text()[-300:]}")
                time.sleep(0.2)
            found = json.loads(run(self.program, "samples", "list", "--json", environ=environ))
            if {sample["id"] for sample in found} != set(facts["kept"]):
                raise FailedError(f"{len(found)} samples where {len(facts['kept'])} were kept")
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            status = process.wait(PATIENCE)
        if status:
            raise FailedError(f"the daemon ended with {status}: {log.read_text()[-300:]}")
        return f"{len(found)} samples"


def build() -> Path:
    """Build sdist and wheel from a clean copy into ``dist``, and return the wheel."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        shutil.copytree(ROOT, source, symlinks=True, ignore=NOT_SOURCE)
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, source, cwd=source)
    version = version_of((ROOT / "dance_ondevice" / "__init__.py").read_text())
    return DIST / f"dance_ondevice-{version}-py3-none-any.whl"


def list_parts(environment: Environment) -> str:
    """Write the SBOM and the list of licences of an environment; a licence that is not known fails."""
    python = environment.venv / "bin" / "python"
    words = ("environment", "--output-reproducible", "--validate", "-o", DIST / "sbom.cdx.json", python)
    run(sys.executable, "-m", "cyclonedx_py", *words)
    licences = (sys.executable, "-m", "piplicenses", "--python", python)
    run(*licences, "-u", "-f", "markdown", "--output-file", DIST / "licences.md")
    found = json.loads(run(*licences, "-f", "json"))
    unknown = [one["Name"] for one in found if one["License"] == "UNKNOWN"]
    if unknown:
        raise FailedError(f"no licence is stated by {', '.join(unknown)}")
    parts = json.loads((DIST / "sbom.cdx.json").read_bytes())["components"]
    return f"{len(parts)} components in dist/sbom.cdx.json, licences in dist/licences.md"


def audit(environment: Environment) -> str:
    """Ask for known vulnerabilities of what an environment holds."""
    (packages,) = environment.venv.glob("lib/python*/site-packages")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip_audit",
            "--path",
            packages,
            "-f",
            "json",
            "--progress-spinner",
            "off",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    if not done.stdout.strip():
        raise NotDoneError(f"the advisories could not be asked for: {done.stderr.strip().splitlines()[-1:]}")
    return read_audit(json.loads(done.stdout))


def main(named: Sequence[str]) -> int:
    """Do all steps; returns the exit status."""
    text = (ROOT / "dance_ondevice" / "__init__.py").read_text()
    steps = [
        step("changelog", lambda: check_changelog(version_of(text), (ROOT / "CHANGELOG.md").read_text()))
    ]
    wheels: list[Path] = []
    steps.append(step("sdist and wheel", lambda: wheels.append(build()) or wheels[0].name))
    tried = pythons(named)
    if wheels and not tried:
        steps.append(Step("Python", "NOT DONE", "no interpreter was found"))
    audited = False
    for python in tried if wheels else ():
        with tempfile.TemporaryDirectory(prefix="dance-release-") as folder:
            environment = Environment(python, Path(folder))
            steps.append(step(f"{python}: the wheel alone", lambda e=environment: e.install(wheels[0])))
            if steps[-1].outcome != "ok":
                continue
            steps.append(step(f"{python}: doctor", environment.doctor))
            steps.append(step(f"{python}: a state of each earlier version", environment.upgrade))
            steps.append(step(f"{python}: demo", environment.demo))
            if not audited:
                steps.append(step("SBOM and licences", lambda e=environment: list_parts(e)))
                steps.append(step("known vulnerabilities", lambda e=environment: audit(e)))
                audited = True
    left = [one for one in steps if one.outcome != "ok"]
    print(
        f"{len(steps) - len(left)} of {len(steps)} steps ok"
        + "".join(f"; {one.outcome} {one.name}" for one in left)
    )
    return 1 if left or not audited else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
