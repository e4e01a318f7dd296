"""Which teacher is configured, and what tells it from another one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.versions.versions import Versions

__all__ = ["TeacherFacts", "configured"]


@dataclass(frozen=True, kw_only=True)
class TeacherFacts:
    """A teacher.

    Attributes:
        name: its kind and what tells it from another: samples that it has seen are not shown to it again.
        source: label source, ``teacher`` or ``self``.
        teacher: see ``TeacherJob``.
        factory: see ``TeacherJob``.
        needs_labels: whether it may label only once it was measured on labels: the live model itself.
    """

    name: str
    source: str
    teacher: str
    factory: str = ""
    needs_labels: bool = False


def configured(config: Config, versions: Versions) -> TeacherFacts | str | None:
    """The teacher to ask, None when there is none, or in words what is wrong with it."""
    labels = config.labels
    if labels.teacher or labels.teacher_factory:
        try:
            mark = _fingerprint(Path(labels.teacher)) if labels.teacher else ""
        except OSError as error:
            return f"the teacher {labels.teacher} cannot be read: {error.strerror or error}"
        name = " ".join(filter(None, (labels.teacher_factory, Path(labels.teacher).name, mark)))
        return TeacherFacts(
            name=name, source="teacher", teacher=labels.teacher, factory=labels.teacher_factory
        )
    pointer = versions.pointer() if labels.self_training else None
    if pointer is None:
        return None
    return TeacherFacts(
        name=f"self {pointer.version}",
        source="self",
        teacher=str(versions.directory(pointer.version).resolve()),
        needs_labels=True,
    )


def _fingerprint(path: Path) -> str:
    """A few digits that change with the file; of a checkpoint, with its card, which has its tensors' hash."""
    file = path / "card.json" if path.is_dir() else path
    status = file.stat()
    return hashlib.blake2b(
        f"{file.resolve()} {status.st_size} {status.st_mtime_ns}".encode(), digest_size=4
    ).hexdigest()
