"""The SQLite schema as migrations: a migration that was released is never edited, new ones are added."""

from __future__ import annotations

import sqlite3

from sqlite_utils import Database
from sqlite_utils.migrations import Migrations

MIGRATION_SET = "dance_ondevice"

#: Every table that a complete database has.
TABLES = (
    "samples",
    "sample_totals",
    "rounds",
    "round_samples",
    "versions",
    "ledger",
    "energy",
    "budget",
    "labelling",
    "label_undo",
    "missing_samples",
)

_SAMPLES = """
CREATE TABLE samples (
    id TEXT PRIMARY KEY,
    camera TEXT NOT NULL,
    seq INTEGER NOT NULL,
    captured_at REAL NOT NULL,          -- s since the epoch, from the sender
    received_at REAL NOT NULL,          -- s since the epoch, from this board
    path TEXT NOT NULL,                 -- relative to the state directory
    format TEXT NOT NULL,               -- 'jpg' or 'png'
    width INTEGER NOT NULL,             -- as stored
    height INTEGER NOT NULL,
    native_width INTEGER NOT NULL,      -- as captured: the label's size
    native_height INTEGER NOT NULL,
    bytes INTEGER NOT NULL,             -- image and label
    digest TEXT NOT NULL,               -- SHA-1 of the stored image; before 0.2.0 blake2b-16
    received_digest TEXT NOT NULL,      -- the same of the image as it came
    score REAL NOT NULL,
    quantile REAL NOT NULL,
    scale REAL NOT NULL,
    weight REAL NOT NULL,
    reason TEXT NOT NULL,
    label_path TEXT,                    -- relative to the state directory
    label_source TEXT,
    classes TEXT,                       -- JSON array of the class ids in the label
    split TEXT,                         -- 'train', 'gate', 'guard' or not yet assigned
    rounds_used INTEGER NOT NULL DEFAULT 0,
    origin TEXT NOT NULL DEFAULT 'stream'  -- or 'rebuilt': read back from the files
)
"""

# Kept by triggers so that the quota is exact whatever writes to the table, and costs no scan.
_TOTALS = """
CREATE TABLE sample_totals (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    labelled INTEGER NOT NULL,
    unlabelled INTEGER NOT NULL,
    bytes INTEGER NOT NULL
)
"""

_TOTALS_ADD = """
    UPDATE sample_totals SET
        labelled = labelled + (new.label_path IS NOT NULL),
        unlabelled = unlabelled + (new.label_path IS NULL),
        bytes = bytes + new.bytes;
"""

_TOTALS_SUBTRACT = """
    UPDATE sample_totals SET
        labelled = labelled - (old.label_path IS NOT NULL),
        unlabelled = unlabelled - (old.label_path IS NULL),
        bytes = bytes - old.bytes;
"""

_ROUNDS = """
CREATE TABLE rounds (
    id TEXT PRIMARY KEY,
    started_at REAL NOT NULL,
    finished_at REAL,
    trigger TEXT,
    reason TEXT,
    outcome TEXT,                       -- NULL while it runs (its samples are not evicted), then
                                        -- 'promoted', 'rejected', 'stopped' or 'failed'
    reasons TEXT,                       -- JSON array
    parent TEXT,
    candidate TEXT,
    miou_before REAL,
    miou_after REAL,
    miou_frozen REAL,
    joules REAL,                        -- attributed: above idle, the trainer's share
    gross_joules REAL,
    method TEXT,
    steps INTEGER,
    seconds REAL,
    seed INTEGER,
    macs_before INTEGER,
    macs_after INTEGER
)
"""

# Also 'relabelled': a sample whose label changed while the round trained, see ``labelled.make_new``.
_ROUND_SAMPLES = """
CREATE TABLE round_samples (
    round_id TEXT NOT NULL,
    sample_id TEXT NOT NULL,
    role TEXT NOT NULL,                 -- 'new', 'rehearsal' or 'gate'
    PRIMARY KEY (round_id, sample_id)
)
"""

_VERSIONS = """
CREATE TABLE versions (
    version TEXT PRIMARY KEY,
    parent TEXT,
    created_at REAL,
    status TEXT NOT NULL,               -- 'live', 'retired', 'rejected' or 'candidate'
    architecture TEXT,
    macs INTEGER,
    parameters INTEGER,
    round_id TEXT,
    miou_gate REAL,
    card TEXT                           -- JSON
)
"""

_LEDGER = """
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    round_id TEXT NOT NULL,
    reserved_joules REAL NOT NULL,
    settled_joules REAL,                -- gross; NULL while the entry is open
    attributed_joules REAL,
    method TEXT,
    opened_at REAL NOT NULL,
    closed_at REAL,
    boot_id TEXT NOT NULL,
    opened_monotonic REAL NOT NULL
)
"""

_ENERGY = """
CREATE TABLE energy (
    day TEXT NOT NULL,
    workload TEXT NOT NULL,
    source TEXT NOT NULL,
    method TEXT NOT NULL,
    joules REAL NOT NULL,
    PRIMARY KEY (day, workload, source, method)
)
"""

_BUDGET = """
CREATE TABLE budget (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    balance_joules REAL NOT NULL,
    updated_at REAL NOT NULL,           -- wall clock, s since the epoch
    boot_id TEXT NOT NULL,
    monotonic REAL NOT NULL             -- the same moment on that boot's monotonic clock, s
)
"""


class SchemaTooNew(RuntimeError):  # noqa: N818
    """The database was written by a later version of this program."""


def _initial(db: Database) -> None:
    for statement in (
        _SAMPLES,
        # Its prefix also finds a resent frame by camera and sequence number.
        "CREATE UNIQUE INDEX samples_frame ON samples (camera, seq, captured_at)",
        "CREATE INDEX samples_time ON samples (camera, captured_at)",
        _TOTALS,
        "INSERT INTO sample_totals VALUES (1, 0, 0, 0)",
        f"CREATE TRIGGER samples_inserted AFTER INSERT ON samples BEGIN {_TOTALS_ADD} END",
        f"CREATE TRIGGER samples_deleted AFTER DELETE ON samples BEGIN {_TOTALS_SUBTRACT} END",
        "CREATE TRIGGER samples_updated AFTER UPDATE OF bytes, label_path ON samples "
        f"BEGIN {_TOTALS_SUBTRACT} {_TOTALS_ADD} END",
        _ROUNDS,
        _ROUND_SAMPLES,
        "CREATE INDEX round_samples_sample ON round_samples (sample_id)",
        _VERSIONS,
        _LEDGER,
        # A round that was interrupted and goes on has an entry for each part, one open at a time.
        "CREATE UNIQUE INDEX ledger_open ON ledger (round_id) WHERE closed_at IS NULL",
        _ENERGY,
        _BUDGET,
    ):
        db.execute(statement)


def _expectations(db: Database) -> None:
    """Add the expected gain and cost of a round, and what the last day used of the budget."""
    for statement in (
        "ALTER TABLE rounds ADD COLUMN expected_gain REAL",  # mIoU, a fraction of 1
        "ALTER TABLE rounds ADD COLUMN expected_joules REAL",  # gross
        "ALTER TABLE rounds ADD COLUMN step_pixels REAL",  # pixels of the images of an average step
        # JSON: joules reserved, and those spent within 24 hours with their age in seconds at updated_at.
        "ALTER TABLE budget ADD COLUMN day TEXT",
    ):
        db.execute(statement)


# One run of the teacher over unlabelled samples; the runs of self-training, too.
_LABELLING = """
CREATE TABLE labelling (
    id TEXT PRIMARY KEY,                -- also of its entry in the ledger
    started_at REAL NOT NULL,
    finished_at REAL,
    teacher TEXT NOT NULL,              -- what tells this teacher from another
    outcome TEXT,                       -- NULL while it runs, then 'done', 'stopped' or 'failed'
    reason TEXT,
    looked_at INTEGER NOT NULL DEFAULT 0,
    labelled INTEGER NOT NULL DEFAULT 0,
    calibrated_on INTEGER,              -- labelled samples; 0: none, the configured confidence holds
    label_agreement REAL,               -- of the teacher's accepted pixels with labels that are not a model's
    agreement_with_teacher REAL,        -- of the live model with the teacher's accepted pixels
    joules REAL,                        -- attributed: above idle, the teacher's share
    gross_joules REAL,
    method TEXT,
    seconds REAL
)
"""


def _sample_value(db: Database) -> None:
    """Add what a sample's value is computed from, who labelled it with what confidence, and its last teacher.

    ``split`` may be 'duplicate' from here on: nearly an earlier training sample, used for nothing.
    """
    for statement in (
        "ALTER TABLE samples ADD COLUMN uncertainty REAL",  # 1 - mean confidence when inference saw it
        "ALTER TABLE samples ADD COLUMN condition TEXT",  # such as dusk; NULL where nobody told
        "ALTER TABLE samples ADD COLUMN signature TEXT",  # of the image: dance_ondevice/images/signature.py
        "ALTER TABLE samples ADD COLUMN label_confidence REAL",  # mean, of a label that a model made
        "ALTER TABLE samples ADD COLUMN taught_by TEXT",  # the last teacher that looked at it
        _LABELLING,
    ):
        db.execute(statement)


def _course(db: Database) -> None:
    """Add how a round went: its curve and pace, and the memory that it took.

    ``outcome`` may be 'rolled_back' from here on: promoted, and taken back on probation.
    """
    for statement in (
        "ALTER TABLE rounds ADD COLUMN curve TEXT",  # JSON: mIoU on some gate samples as it went on
        "ALTER TABLE rounds ADD COLUMN pace TEXT",  # JSON: factors on learning rate and steps
        "ALTER TABLE rounds ADD COLUMN peak_bytes INTEGER",  # most resident memory of the trainer
        "ALTER TABLE rounds ADD COLUMN batch_size INTEGER",  # that it ended with
        "ALTER TABLE rounds ADD COLUMN image_scale REAL",  # factor on all images for want of memory
    ):
        db.execute(statement)


def _condition_rounds(db: Database) -> None:
    """Add the one condition that a round trained; NULL for all at once."""
    db.execute("ALTER TABLE rounds ADD COLUMN condition TEXT")


def _round_limits(db: Database) -> None:
    """Add the limits of a round across restarts; ``seconds`` counts while it runs from here on."""
    for statement in (
        "ALTER TABLE rounds ADD COLUMN max_seconds REAL",  # that it may take in all its parts
        "ALTER TABLE rounds ADD COLUMN resumes INTEGER NOT NULL DEFAULT 0",  # after an interruption
    ):
        db.execute(statement)


def _arrival(db: Database) -> None:
    """Numbers samples in the order of storing, whatever any clock says; a number is never given out again."""
    for statement in (
        "ALTER TABLE samples ADD COLUMN arrival INTEGER",
        "UPDATE samples SET arrival = rowid",
        "CREATE INDEX samples_arrival ON samples (arrival)",
        "ALTER TABLE sample_totals ADD COLUMN arrivals INTEGER NOT NULL DEFAULT 0",
        "UPDATE sample_totals SET arrivals = (SELECT coalesce(max(arrival), 0) FROM samples)",
        "CREATE TRIGGER samples_arrived AFTER INSERT ON samples BEGIN "
        "UPDATE sample_totals SET arrivals = arrivals + 1; "
        "UPDATE samples SET arrival = (SELECT arrivals FROM sample_totals) WHERE rowid = new.rowid; END",
        # Samples that had arrived when the round was planned; NULL of rounds of earlier versions.
        "ALTER TABLE rounds ADD COLUMN arrivals INTEGER",
        # What is needed of a round's samples once they are gone; their rows go with them.
        "ALTER TABLE rounds ADD COLUMN new_samples INTEGER",
        "UPDATE rounds SET new_samples = "
        "(SELECT count(*) FROM round_samples WHERE round_id = rounds.id AND role = 'new')",
        "CREATE TRIGGER samples_gone AFTER DELETE ON samples BEGIN DELETE FROM round_samples "
        "WHERE sample_id = old.id AND round_id NOT IN (SELECT id FROM rounds WHERE outcome IS NULL); END",
    ):
        db.execute(statement)


def _unreadable(db: Database) -> None:
    """Why a sample's image or label cannot be read; NULL while it can. Such a sample serves for nothing."""
    db.execute("ALTER TABLE samples ADD COLUMN unreadable TEXT")
    db.execute("CREATE INDEX samples_unreadable ON samples (id) WHERE unreadable IS NOT NULL")


def _round_meter(db: Database) -> None:
    """Add the meter of a round's joules: only rounds of the same meter predict another round's cost."""
    db.execute("ALTER TABLE rounds ADD COLUMN meter TEXT")  # sources and domains, such as 'rapl:psys'


# What samples had for a label before the last import of labels.
_LABEL_UNDO = """
CREATE TABLE label_undo (
    sample_id TEXT PRIMARY KEY,
    import_id TEXT NOT NULL,
    png BLOB,                           -- NULL where there was no label
    source TEXT,
    classes TEXT,
    confidence REAL,
    imported TEXT NOT NULL              -- blake2b-16 of the label that the import wrote
)
"""


def _label_undo(db: Database) -> None:
    """Add the labels before the last import; an evicted sample's label goes with it."""
    db.execute(_LABEL_UNDO)
    db.execute(
        "CREATE TRIGGER label_undo_deleted AFTER DELETE ON samples "
        "BEGIN DELETE FROM label_undo WHERE sample_id = old.id; END"
    )


def _fleet_rounds(db: Database) -> None:
    """Add the release that a round judged for the fleet; NULL for rounds that train."""
    db.execute("ALTER TABLE rounds ADD COLUMN fleet_release TEXT")  # its SHA-256


def _missing_samples(db: Database) -> None:
    """Add the rows of samples whose image was gone at a start: its disk may have been away."""
    db.execute("CREATE TABLE missing_samples (id TEXT PRIMARY KEY, row TEXT NOT NULL)")  # JSON object


def _left_over(db: Database) -> None:
    """Add the number of unused samples to train on at the end of a round; NULL for earlier rounds."""
    db.execute("ALTER TABLE rounds ADD COLUMN left_over INTEGER")


_CHANGES = (
    ("0001_initial", _initial),
    ("0002_expectations", _expectations),
    ("0003_sample_value", _sample_value),
    ("0004_course", _course),
    ("0005_condition_rounds", _condition_rounds),
    ("0006_round_limits", _round_limits),
    ("0007_round_meter", _round_meter),
    ("0008_label_undo", _label_undo),
    ("0009_arrival", _arrival),
    ("0010_unreadable", _unreadable),
    ("0011_fleet_rounds", _fleet_rounds),
    ("0012_missing_samples", _missing_samples),
    ("0013_left_over", _left_over),
)


def migrate(db: Database) -> None:
    """Migrate a database, empty or of an earlier version, to this version's schema.

    Raises:
        SchemaTooNew: A later version has changed the database; it is left unchanged.
    """
    changes = Migrations(MIGRATION_SET)
    for name, change in _CHANGES:
        changes(name=name)(change)
    unknown = {applied.name for applied in changes.applied(db)} - {name for name, _ in _CHANGES}
    if unknown:
        raise SchemaTooNew(
            f"the database has changes that this version does not know ({', '.join(sorted(unknown))}): "
            "install the version that made it, or move dance.db away to have it rebuilt from the files"
        )
    changes.apply(db)


def up_to_date(db: Database) -> Database:
    """Return a database to read from: itself, or a temporary migrated copy of one of an earlier version.

    The caller closes what is returned; of a copy the original is closed here.

    So commands can read a folder before the first start of this version, which migrates it for good. A
    database that is no index, or that a later version has changed, is returned as it is.
    """
    if "_sqlite_migrations" not in db.table_names():
        return db
    rows = db.execute("SELECT name FROM _sqlite_migrations WHERE migration_set = ?", [MIGRATION_SET])
    applied = {name for (name,) in rows.fetchall()}
    if not applied < {name for name, _ in _CHANGES}:
        return db
    # Without a name: what does not fit SQLite's cache goes to a temporary file, not to a board's memory.
    copy = Database(sqlite3.connect(""), execute_plugins=False)
    try:
        db.conn.backup(copy.conn)
        migrate(copy)
    except BaseException:
        copy.close()
        raise
    db.close()
    return copy
