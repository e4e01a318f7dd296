"""The handlers of the console's socket: what its pages show and do, and nothing beyond that."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlite_utils import Database

from dance_ondevice.daemon.control.server import ControlError, Handler
from dance_ondevice.daemon.curation import purge
from dance_ondevice.daemon.curation.lineage import versions_knowing
from dance_ondevice.daemon.ingest.last_seen import LastSeen
from dance_ondevice.daemon.metrics.instruments import Instruments
from dance_ondevice.daemon.store.samples import LabelChanged, StoreError
from dance_ondevice.daemon.store.service import open_reader
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.viewing import gallery, history, pictures
from dance_ondevice.daemon.viewing.checkup import Checkup
from dance_ondevice.daemon.viewing.copying import Copying, CopyRefused
from dance_ondevice.daemon.viewing.handwork import HandLabels, LabelRefused
from dance_ondevice.daemon.viewing.worklist import Worklist
from dance_ondevice.images.headers import ImageError

__all__ = ["Console"]

T = TypeVar("T")

#: Of the control socket's commands, those that the pages need: none that reads files by name.
_SHARED = ("status", "pause", "resume", "train_now", "train_status", "promote", "rollback", "remove_samples")
#: Pixels of the longer side of what is sent: a thumbnail, a frame, a frame to label.
_SIDES = (240, 960, 1920)
_LIVE_SIDE = 960


@dataclass(frozen=True, kw_only=True)
class Console:
    """Answers the console; one thread calls it, that of the console's socket, which also closes it."""

    paths: StatePaths
    control: Mapping[str, Handler]
    token: str
    seen: LastSeen
    instruments: Instruments
    hand: HandLabels
    worklist: Worklist
    checkup: Checkup
    copying: Copying
    hours: Callable[[], list[dict[str, Any]]]
    fleet: Callable[[], dict[str, Any] | None]

    def handlers(self) -> Mapping[str, Handler]:
        """A handler for each command; see ``control.server.ControlServer``."""
        return {
            **{name: self.control[name] for name in _SHARED},
            "console_token": lambda _: {"token": self.token},
            "live": lambda _: self._live(),
            "live_view": self._live_view,
            "samples": self._samples,
            "sample": self._sample,
            "image": self._image,
            "purge_plan": self._purge_plan,
            "purge_some": self._purge_some,
            "learning": lambda _: self._read(
                lambda db: {"rounds": history.rounds(db), "versions": history.versions(db)}
            ),
            "version": self._version,
            "energy_days": lambda _: {"days": self._read(history.energy_days), "hours": self.hours()},
            "backup": self._backup,
            "fleet": lambda _: {"fleet": self.fleet()},
            "worklist": lambda _: {**self._read(self.worklist.frames), "totals": vars(self.hand.totals)},
            "open_label": self._open_label,
            "save_label": self._save_label,
            "doctor": lambda query: self.checkup.start() if query.get("start") else self.checkup.report(),
        }

    def close(self) -> None:
        """End what runs for the console."""
        self.checkup.close()
        self.copying.close()

    def _live(self) -> dict[str, Any]:
        status = self.control["status"]({})
        assert isinstance(status, dict)
        frames: dict[str, dict[str, int]] = {}
        for (camera, _, outcome), count in self.instruments.condition_counts().items():
            counted = frames.setdefault(camera, {})
            counted[outcome] = counted.get(outcome, 0) + count
        views, verdicts = self.seen.views(), self.seen.verdicts()
        conditions = (status.get("conditions") or {}).get("cameras") or {}
        unseen = [name for name in status["cameras"] if name not in views]
        stored = self._read(lambda db: gallery.newest(db, unseen)) if unseen else {}
        cameras = []
        for name, times in status["cameras"].items():
            view, verdict = views.get(name), verdicts.get(name)
            mask = view.segmented if view else None
            cameras.append(
                {
                    "name": name,
                    "age_s": times["last_frame_s"],
                    "frames": frames.get(name, {}),
                    "condition": mask.condition if mask else conditions.get(name),
                    "last": verdict,
                    "shown": view.frame.id if view else stored.get(name, {}).get("id"),
                    "masked": mask is not None,
                    "confidence": mask.confidence if mask else None,
                    "version": mask.version if mask else None,
                }
            )
        return {"status": status, "cameras": cameras}

    def _live_view(self, query: Mapping[str, Any]) -> dict[str, Any]:
        camera = str(query["camera"])
        view = self.seen.view(camera)
        if view is None:
            row = self._read(lambda db: gallery.newest(db, [camera])).get(camera)
            if row is None:
                raise ControlError("no frame has come since somebody watches; the next one will be shown")
            path = self.paths.root / str(row["path"])
            stored = _picture(lambda: pictures.of_file(path, _LIVE_SIDE))
            return {"id": row["id"], "image": stored, "mask": None}
        picture = _picture(lambda: pictures.of_frame(view.frame, _LIVE_SIDE))
        mask = None
        if view.segmented is not None:
            ids = view.segmented.mask
            factor = min(1.0, _LIVE_SIDE / max(ids.shape))
            size = (max(1, round(ids.shape[0] * factor)), max(1, round(ids.shape[1] * factor)))
            mask = {"size": size, "ids": _text(pictures.pack(pictures.shrink(ids, size)))}
        return {"id": view.frame.id, "image": picture, "mask": mask}

    def _samples(self, query: Mapping[str, Any]) -> dict[str, Any]:
        labelled = query.get("labelled")
        wanted = gallery.Filter(
            **{name: str(query.get(name) or "") for name in ("camera", "condition", "source", "split")},
            labelled=labelled if isinstance(labelled, bool) else None,
            unreadable=bool(query.get("unreadable")),
        )
        before, after = _number(query, "before"), _number(query, "after")
        return self._read(
            lambda db: {
                **gallery.page(db, wanted, before=before, after=after),
                "cameras": gallery.cameras(db),
            }
        )

    def _sample(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._read(lambda db: gallery.sample(db, str(query["id"])))
        if found is None:
            raise ControlError("there is no such sample: it was never kept, or was evicted since")
        return found

    def _image(self, query: Mapping[str, Any]) -> dict[str, Any]:
        longest = next((side for side in _SIDES if side >= int(query["longest"])), _SIDES[-1])
        path = self.paths.root / str(self._row(query)["path"])
        return _picture(lambda: pictures.of_file(path, longest))

    def _purge_plan(self, query: Mapping[str, Any]) -> dict[str, Any]:
        def plan(db: Database) -> dict[str, Any]:
            ids = _meant(db, query)
            used = purge.in_running_round(db)
            free = [each for each in ids if each not in used]
            return {
                "samples": len(free),
                "in_running_round": len(ids) - len(free),
                "versions": versions_knowing(db, free),
            }

        return self._read(plan)

    def _purge_some(self, query: Mapping[str, Any]) -> dict[str, Any]:
        def some(db: Database) -> list[str]:
            used = purge.in_running_round(db)
            return [each for each in _meant(db, query) if each not in used][: purge.MOST_AT_ONCE]

        ids = self._read(some)
        cameras = sorted({each.rsplit("-", 2)[0] for each in ids})
        removed = self.control["remove_samples"]({"ids": ids, "cameras": cameras})
        assert isinstance(removed, dict)
        return {"removed": removed["removed"], "more": len(ids) == purge.MOST_AT_ONCE}

    def _version(self, query: Mapping[str, Any]) -> dict[str, Any]:
        found = self._read(lambda db: history.version(db, str(query["version"])))
        if found is None:
            raise ControlError("there is no such version; old ones are removed in time")
        return found

    def _open_label(self, query: Mapping[str, Any]) -> dict[str, Any]:
        row = self._row(query)
        try:
            return {"sample": row["id"], "camera": row["camera"], **self.hand.open(row)}
        except LabelRefused as error:
            raise ControlError(str(error)) from error

    def _save_label(self, query: Mapping[str, Any]) -> dict[str, Any]:
        row = self._row(query)
        try:
            saved = self.hand.save(query, row)
        except LabelChanged:
            return {"conflict": True}
        except (LabelRefused, StoreError) as error:
            raise ControlError(str(error)) from error
        self.worklist.labelled()
        return {"conflict": False, **saved}

    def _backup(self, query: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if query.get("start"):
                return self.copying.start(self._size_of_backup())
            if query.get("discard"):
                self.copying.close()
            offset = _number(query, "offset")
            if offset is not None:
                return {"data": _text(self.copying.piece(offset))}
        except (CopyRefused, OSError) as error:
            raise ControlError(str(error)) from error
        return self.copying.report()

    def _size_of_backup(self) -> int:
        """About the bytes of a backup: the samples, and the index and models in the state folder."""
        status = self.control["status"]({})
        assert isinstance(status, dict)
        models = sum(file.stat().st_size for file in self.paths.models.rglob("*") if file.is_file())
        return int(status["samples"]["bytes"]) + models + self.paths.database.stat().st_size

    def _row(self, query: Mapping[str, Any]) -> Mapping[str, Any]:
        def one(db: Database) -> Mapping[str, Any] | None:
            return next(db.query("select * from samples where id = ?", [str(query["id"])]), None)

        found = self._read(one)
        if found is None:
            raise ControlError("there is no such sample: it was never kept, or was evicted since")
        return found

    def _read(self, run: Callable[[Database], T]) -> T:
        with _reader(self.paths) as db:
            return run(db)


@contextmanager
def _reader(paths: StatePaths) -> Iterator[Database]:
    db = open_reader(paths)
    try:
        yield db
    finally:
        db.close()


def _meant(db: Database, query: Mapping[str, Any]) -> list[str]:
    """The samples that a request for removal names: by their ids, or by camera and time.

    Raises:
        ControlError: It names none.
    """
    ids = query.get("ids")
    if isinstance(ids, list) and all(isinstance(each, str) for each in ids):
        if len(ids) > purge.MOST_AT_ONCE:
            raise ControlError(f"at most {purge.MOST_AT_ONCE} samples at once")
        marks = ",".join("?" * len(ids))
        return [row[0] for row in db.execute(f"select id from samples where id in ({marks})", ids)]
    selection = purge.Selection(
        camera=str(query["camera"]) if query.get("camera") else None,
        before=float(query["before"]) if query.get("before") is not None else None,
        after=float(query["after"]) if query.get("after") is not None else None,
        unreadable=bool(query.get("unreadable")),
    )
    if selection == purge.Selection():
        raise ControlError("say which samples: a camera, a time, or those that cannot be read")
    return purge.select(db, selection)


def _number(query: Mapping[str, Any], name: str) -> int | None:
    value = query.get(name)
    return value if isinstance(value, int) else None


def _picture(make: Callable[[], pictures.Picture]) -> dict[str, str]:
    try:
        picture = make()
    except (OSError, ImageError) as error:
        raise ControlError(f"the image cannot be shown: {error}") from error
    return {"data": _text(picture.data), "kind": picture.kind}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
