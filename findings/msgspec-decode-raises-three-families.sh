#!/usr/bin/env bash
# msgspec 0.21.1: `msgspec.json.decode` of bytes that are no good raises three unrelated families of errors. Malformed JSON
# and wrong types are msgspec.DecodeError, text that is not UTF-8 is UnicodeDecodeError, values nested too deeply are
# RecursionError. `except msgspec.DecodeError` around a file from elsewhere, the obvious guard, lets two of them through.
# Answered by dance_ondevice/documents.py, whose `decode` raises one error for all three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'msgspec==0.21.1'
"$folder/venv/bin/python" - <<'PY'
import msgspec

seen = {}
for name, data in {
    "cut off": b'{"a": ',
    "Latin-1 text": '"caf\u00e9"'.encode("latin-1"),
    "lists in lists": b"[" * 5000 + b"]" * 5000,
}.items():
    try:
        msgspec.json.decode(data)
    except Exception as error:
        seen[name] = type(error)
        print(f"msgspec {msgspec.__version__}: {name}: {type(error).__mro__[0].__name__}, "
              f"a DecodeError: {isinstance(error, msgspec.DecodeError)}")
changed = seen != {"cut off": msgspec.DecodeError, "Latin-1 text": UnicodeDecodeError, "lists in lists": RecursionError}
raise SystemExit("this has changed" if changed else 0)
PY
