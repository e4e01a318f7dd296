"""The live model of a state folder, for commands that segment images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dance_ondevice.daemon.cli import WorkFailed

if TYPE_CHECKING:
    from dance_ondevice.daemon.system.state import StatePaths
    from dance_ondevice.images.masks import Prediction
    from dance_ondevice.models.card import ModelCard


def live_model(paths: StatePaths) -> Callable[[Path], Prediction | None] | None:
    """A function that segments an image file with the live model; None where no model is live.

    The model is loaded at the first call, which raises ``WorkFailed`` if it does not load. For an image that
    cannot be decoded the function returns None.
    """
    from dance_ondevice.documents import decode
    from dance_ondevice.images.codec import decode_colour
    from dance_ondevice.images.headers import ImageError

    try:
        version = decode(paths.live_file.read_bytes(), dict[str, Any])["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    loaded: list[tuple[Any, ModelCard]] = []

    def ask(image: Path) -> Prediction | None:
        from dance_ondevice.models import checkpoint
        from dance_ondevice.models.forward import predict

        if not loaded:
            try:
                loaded.append(checkpoint.load(paths.models / version))
            except ValueError as error:
                raise WorkFailed(f"the live model {version} does not load: {error}") from error
        model, card = loaded[0]
        try:
            return predict(model, decode_colour(image.read_bytes()), card.normalisation)
        except (OSError, ImageError):
            return None

    return ask
