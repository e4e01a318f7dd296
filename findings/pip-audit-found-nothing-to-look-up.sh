#!/usr/bin/env bash
# pip-audit 2.10.1: packages for which no advisories can be looked up, such as those of one's own index or of a mirror without PyPI's
# JSON, count as passed. "No known vulnerabilities found" and status 0 are the same as after a real look; only a table below, or
# `skip_reason` in the JSON, tells. `--strict` changes it.
#
#   one package, looked up 0: "No known vulnerabilities found", status 0; with --strict status 1
#
# Answered by tests/release/release_check.py (`read_audit`), which counts what was looked up.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'pip-audit==2.10.1'
# A package that no index has: its metadata, as an installation leaves it.
site=$folder/site/a_package_of_our_own_4711-1.0.dist-info
mkdir -p "$site"
printf 'Metadata-Version: 2.1\nName: a-package-of-our-own-4711\nVersion: 1.0\n' > "$site/METADATA"
"$folder/venv/bin/python" - "$folder" <<'PY'
import json
import subprocess
import sys

folder = sys.argv[1]


def audit(*words):
    command = [f"{folder}/venv/bin/pip-audit", "--path", f"{folder}/site", "--progress-spinner", "off", *words]
    return subprocess.run(command, capture_output=True, text=True)


plain, strict = audit("--format", "json"), audit("--strict")
packages = json.loads(plain.stdout)["dependencies"]
said = plain.stderr.strip().splitlines()[-1]
print(f"pip-audit 2.10.1: {len(packages)} package, looked up {sum('vulns' in one for one in packages)}: "
      f'"{said}", status {plain.returncode}; with --strict status {strict.returncode}')
assert [list(one) for one in packages] == [["name", "skip_reason"]], packages
assert (said, plain.returncode, strict.returncode) == ("No known vulnerabilities found", 0, 1), "this has changed"
PY
