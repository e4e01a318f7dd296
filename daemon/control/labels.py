"""Handlers that import labels over the control socket, which only the daemon's user can open, and undo it."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout  # Python 3.10 has another one beside it
from typing import Any

from dance_ondevice.daemon.control.server import ControlError
from dance_ondevice.daemon.ingest.pixels import check_label_png
from dance_ondevice.daemon.store import label_undo
from dance_ondevice.daemon.store.samples import StoreError
from dance_ondevice.daemon.store.service import Store
from dance_ondevice.daemon.wire.messages import WireError

__all__ = ["BYTES_AT_ONCE", "MOST_AT_ONCE", "import_through", "undo_through"]

#: The most labels in one request and the most bytes of their PNGs: they fit into it in base64, and keep
#: neither this thread nor the store busy for long.
MOST_AT_ONCE = 32
BYTES_AT_ONCE = 5 << 18
_SOURCE = "import"
#: A handler of the control socket must return within the longest silence of a heartbeat.
_STORE_SECONDS = 8.0
_BUSY = f"the store did not get to it within {_STORE_SECONDS:g} s"


def import_through(
    store: Store, query: Mapping[str, Any], *, n_classes: int, max_pixels: int
) -> dict[str, object]:
    """Store labels of one import; answers for each label, in order, None or why it was refused.

    Args:
        store: The sample store.
        query: ``import``, one name for all labels of a command, and ``labels``, a list of objects with
            ``sample`` and ``png`` in base64.
        n_classes: Number of the model's classes.
        max_pixels: The most pixels of a label.

    Raises:
        ControlError: The request is malformed, or holds too many labels.
    """
    name, labels = query.get("import"), query.get("labels")
    if not isinstance(name, str) or not name or not isinstance(labels, list) or len(labels) > MOST_AT_ONCE:
        raise ControlError(
            f'labels come as {{"import": name, "labels": [at most {MOST_AT_ONCE} of {{"sample", "png"}}]}}'
        )
    waiting: list[Future[None] | str] = []
    for label in labels:
        try:
            sample, png = str(label["sample"]), base64.b64decode(label["png"], validate=True)
            checked = check_label_png(png, size=None, max_pixels=max_pixels, n_classes=n_classes)
        except (KeyError, TypeError, binascii.Error, WireError) as error:
            waiting.append(str(error))
        else:
            waiting.append(store.add_label(sample, checked.png, checked.classes, _SOURCE, import_id=name))
    until = time.monotonic() + _STORE_SECONDS
    return {"errors": [each if isinstance(each, str) else _error(each, until) for each in waiting]}


def undo_through(store: Store, query: Mapping[str, Any]) -> dict[str, object]:
    """Undo a part of the last import: give samples back their earlier label, or none where they had none.

    Args:
        store: The sample store.
        query: ``after``, the id of the last sample of the part before; empty for the first part.

    Returns:
        The number of samples that got a label ``back``, the number whose label was ``removed``, those that
        were ``left`` with the reason, and the ``last`` sample of this part; None where there are no more.

    Raises:
        StoreError: The index cannot be read.
    """
    after = str(query.get("after", ""))
    try:
        ids = store.submit(lambda db: label_undo.listed(db, after, MOST_AT_ONCE)).result(_STORE_SECONDS)
    except FutureTimeout:
        raise ControlError(f"{_BUSY}: undo again in a moment") from None
    until = time.monotonic() + _STORE_SECONDS
    futures = [store.restore_label(each) for each in ids]
    back = removed = 0
    left: list[Sequence[str]] = []
    for sample, future in zip(ids, futures, strict=True):
        try:
            restored = future.result(max(0.0, until - time.monotonic()))
        except FutureTimeout:
            left.append((sample, f"{_BUSY}, and may still do it: undo again to see"))
        except StoreError as error:
            left.append((sample, str(error)))
        else:
            back, removed = back + restored, removed + (not restored)
    return {"back": back, "removed": removed, "left": left, "last": ids[-1] if ids else None}


def _error(future: Future[None], until: float) -> str | None:
    """Return why a label was not stored; all labels of a request share the time until a monotonic second."""
    try:
        future.result(max(0.0, until - time.monotonic()))
    except FutureTimeout:
        return f"{_BUSY}, and may still store it: import again to see"
    except StoreError as error:
        return str(error)
    return None
