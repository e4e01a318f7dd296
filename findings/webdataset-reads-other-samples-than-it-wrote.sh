#!/usr/bin/env bash
# webdataset 1.0.2: a sample's files are put together by their name up to the first dot, as its readers document. `TarWriter` of the same
# package takes keys with dots all the same and writes them as they are: with the time of a frame in seconds as its key, all frames of one
# second come back as one sample, whose fields are called "25.txt" and "75.txt"; with "front.left.0001" it is the whole recording. Dots in
# a folder of the key do no harm. No error or warning at writing or reading, and as many bytes as before.
#
#   keys 1700000000.25, 1700000000.75, 1700000001.25: written 3, read 2, with a field "txt" 0;
#   front.left.0001, front.left.0002, front.right.0001: written 3, read 1; front/left/0001, ...: written 3, read 3
#
# Nothing here depends on it: samples lie in files and SQLite (daemon/store). Needs python3 and a network. Ends with status 1 if it
# behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'webdataset==1.0.2' 'numpy==2.2.6'
"$folder/venv/bin/python" -W ignore - "$folder/shard.tar" <<'PY'
import sys
from importlib.metadata import version

import webdataset


def there_and_back(*keys):
    """How many samples come back of those written, and how many of them have the field that each was given."""
    with webdataset.TarWriter(sys.argv[1]) as writer:
        for key in keys:
            writer.write({"__key__": key, "txt": key})
    samples = list(webdataset.WebDataset(sys.argv[1], shardshuffle=False))
    return len(keys), len(samples), sum("txt" in sample for sample in samples)


seen = {
    "times": there_and_back("1700000000.25", "1700000000.75", "1700000001.25"),
    "with dots": there_and_back("front.left.0001", "front.left.0002", "front.right.0001"),
    "with slashes": there_and_back("front/left/0001", "front/left/0002", "front/right/0001"),
}
print(f"webdataset {version('webdataset')}: written, read, of these with their field: {seen}")
raise SystemExit(0 if list(seen.values()) == [(3, 2, 0), (3, 1, 0), (3, 3, 3)] else "this has changed")
PY
