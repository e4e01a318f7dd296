"""What a configuration says that is allowed, and not done to the letter on this board."""

from __future__ import annotations

from collections.abc import Iterator

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.system import cores


def warnings(config: Config) -> Iterator[str]:
    """A sentence for each such value."""
    for key, threads in (
        ("inference.threads", config.inference.threads),
        ("training.threads", config.training.threads),
    ):
        if said := cores.warning(key, threads):
            yield said
    if config.inference.engine == "executorch":
        yield (
            "inference.engine: executorch serves no masks, as its Python runtime needs torch in the daemon "
            "and so takes more memory than it saves; auto is taken. models export --format executorch writes "
            "files for other programs"
        )
