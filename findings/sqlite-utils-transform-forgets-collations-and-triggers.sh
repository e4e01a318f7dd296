#!/usr/bin/env bash
# sqlite-utils 4.2.1: `table.transform()` keeps CHECK, STRICT, UNIQUE, defaults and indexes, and refuses a partial index that it cannot make
# again. Two things go without a word, whatever is asked of it, here another default of another column: `COLLATE NOCASE` of a column,
# so that `camera = 'front'` no longer finds Front, while UNIQUE, which keeps it, still refuses FRONT as a double; and every trigger of the
# table, so that counters kept by triggers stand still. (Its manual says that triggers are not "upgraded": they are gone.)
#
#   before: camera = 'front' finds 1, a second 'FRONT' raises IntegrityError, the trigger has counted 2 of 2
#   after:  camera = 'front' finds 0, a second 'FRONT' raises IntegrityError, the trigger has counted 1 of 2
#
# Answered by daemon/store/schema.py: its steps are SQL, ALTER TABLE and new tables, and transform() is not called.
# Needs python3 and a network. Ends with status 1 if it behaves otherwise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'sqlite-utils==4.2.1'
"$folder/venv/bin/python" - <<'PY'
import sqlite3
from importlib.metadata import version

from sqlite_utils import Database


def opened():
    db = Database(memory=True)
    db.execute("CREATE TABLE counted (n INTEGER)")
    db.execute("INSERT INTO counted VALUES (0)")
    db.execute(
        "CREATE TABLE cameras (id INTEGER PRIMARY KEY, camera TEXT COLLATE NOCASE NOT NULL UNIQUE, "
        "score REAL CHECK (score <= 1), bytes INTEGER DEFAULT 0) STRICT"
    )
    db.execute("CREATE TRIGGER counts AFTER INSERT ON cameras BEGIN UPDATE counted SET n = n + 1; END")
    db["cameras"].insert({"camera": "Front", "score": 0.5})
    return db


def seen(db):
    found = db.execute("SELECT count(*) FROM cameras WHERE camera = 'front'").fetchone()[0]
    try:
        db["cameras"].insert({"camera": "FRONT", "score": 0.5})
        second = "taken"
    except sqlite3.IntegrityError:
        second = "IntegrityError"
    db["cameras"].insert({"camera": "rear", "score": 0.5})
    return found, second, db.execute("SELECT n FROM counted").fetchone()[0], db["cameras"].count


print("sqlite-utils", version("sqlite-utils"), "SQLite", sqlite3.sqlite_version)
before = seen(opened())
db = opened()
db["cameras"].transform(defaults={"bytes": 1})
after = seen(db)
names = "camera = 'front' finds {}, a second 'FRONT': {}, counted {} of {}"
print("before:", names.format(*before))
print("after: ", names.format(*after), "| triggers:", db.triggers)
print(db["cameras"].schema)
kept = "CHECK" in db["cameras"].schema and db["cameras"].strict
raise SystemExit(0 if kept and before == (1, "IntegrityError", 2, 2) and after == (0, "IntegrityError", 1, 2) else 1)
PY
