#!/usr/bin/env bash
# sqlite-utils 4.2.1: `upsert` leaves the columns alone that its record does not name, as documented; `upsert_all` of the same records
# does so only if all of a batch name the same columns. Where another record has a column more, it is written as NULL into
# the rows whose records lack it, over the value that was there. Whether a value is lost depends on the neighbour and, as
# batches are of 100, on the order.
#
#   one by one: row 1 is ('new', 'kept'); in a batch beside a record with b: ('new', None); alone in its batch: ('new', 'kept')
#
# Answered by daemon/rounds/record.py and daemon/versions/versions.py, which upsert one row at a time.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'sqlite-utils==4.2.1'
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

from sqlite_utils import Database

RECORDS = [{"id": 1, "a": "new"}, {"id": 2, "a": "new", "b": "new"}]


def first_row(write):
    table = Database(memory=True)["t"]
    table.insert_all([{"id": id, "a": "old", "b": "kept"} for id in (1, 2)], pk="id")
    write(table)
    row = table.get(1)
    return row["a"], row["b"]


def one_by_one(table):
    for record in RECORDS:
        table.upsert(record, pk="id")


found = {
    "one by one": first_row(one_by_one),
    "in a batch beside a record with b": first_row(lambda table: table.upsert_all(RECORDS, pk="id")),
    "alone in its batch": first_row(lambda table: table.upsert_all(RECORDS, pk="id", batch_size=1)),
}
print(f"sqlite-utils {version('sqlite-utils')}: row 1 " + "; ".join(f"{name}: {row}" for name, row in found.items()))
raise SystemExit(0 if list(found.values()) == [("new", "kept"), ("new", None), ("new", "kept")] else "this has changed")
PY
