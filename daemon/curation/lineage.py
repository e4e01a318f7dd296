"""Finds the model versions that learnt from a sample: those trained on it, and their descendants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from dance_ondevice.daemon.versions.versions import age_key

__all__ = ["Knowing", "versions_knowing"]

_CHUNK = 500

# A version is linked to the round that made it, and its descendants started from its weights. Old versions
# are pruned from their table while rounds stay, so both are joined, or the chain would break at a pruned one.
_KNOWING = """
WITH RECURSIVE born (version, parent, round_id) AS (
    SELECT candidate, parent, id FROM rounds WHERE candidate IS NOT NULL
    UNION SELECT version, parent, round_id FROM versions
),
knowing (version, direct) AS (
    SELECT born.version, 1 FROM born JOIN round_samples USING (round_id)
    WHERE role IN ('new', 'rehearsal', 'relabelled') AND sample_id IN ({marks})
    UNION
    SELECT born.version, 0 FROM born JOIN knowing ON born.parent = knowing.version
)
SELECT version, coalesce(status, 'removed'), max(born.round_id), max(born.parent), max(direct)
FROM knowing JOIN born USING (version) LEFT JOIN versions USING (version)
GROUP BY version
"""


@dataclass(frozen=True, kw_only=True)
class Knowing:
    """A version that has learnt from a sample.

    Attributes:
        version: The version's name.
        status: ``live``, ``retired``, ``rejected``, ``candidate``, or ``removed`` if it was deleted.
        round: The round that made it, None for a base model.
        parent: The version that it was made from.
        direct: Whether its own round trained on the sample; else an ancestor's did.
    """

    version: str
    status: str
    round: str | None
    parent: str | None
    direct: bool


def versions_knowing(db: Database, ids: Sequence[str]) -> list[Knowing]:
    """The versions that have learnt from any of the given samples, oldest first.

    The record of a sample's use in rounds is removed with the sample, so ask before removing it.
    """
    found: dict[str, Knowing] = {}
    for start in range(0, len(ids), _CHUNK):
        chunk = list(ids[start : start + _CHUNK])
        query = _KNOWING.format(marks=",".join("?" * len(chunk)))
        for version, status, round_id, parent, direct in db.execute(query, chunk):
            earlier = found.get(version)
            found[version] = Knowing(
                version=version,
                status=status,
                round=round_id,
                parent=parent,
                direct=bool(direct) or (earlier is not None and earlier.direct),
            )
    return [found[version] for version in sorted(found, key=age_key)]
