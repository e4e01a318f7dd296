"""Renders the pages: templates, what they all show, and values in words."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import DictLoader, Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from dance_ondevice.daemon.console.guide import advice
from dance_ondevice.daemon.console.hub import Hub
from dance_ondevice.daemon.console.link import DaemonLink

__all__ = ["NAVIGATION", "Pages", "Site", "site_of", "swatches"]

#: Path and name of each page, as the navigation shows them.
NAVIGATION = (
    ("/", "Live"),
    ("/label", "Label"),
    ("/learning", "Learning"),
    ("/samples", "Samples"),
    ("/energy", "Energy"),
    ("/fleet", "Fleet"),
    ("/health", "Health"),
)
_SPLITS = {
    "train": "rounds learn from it",
    "gate": "held out: candidates are judged on it",
    "guard": "beside held-out samples, so it serves for nothing",
    "duplicate": "nearly an earlier training sample, so it serves for nothing",
}
_SOURCES = {
    "person": "a person, here",
    "import": "an import",
    "wire": "its sender, later",
    "frame": "its sender",
    "sender": "its sender",
    "teacher": "a teacher model",
    "self": "the live model itself",
}


@dataclass(frozen=True)
class Pages:
    """The templates of the package, and the version that names static files anew after an upgrade."""

    version: str
    environment: Environment

    @classmethod
    def load(cls, version: str) -> Pages:
        """Load the templates, all at once: an upgrade may replace their files while this process runs on."""
        package = Environment(loader=PackageLoader("dance_ondevice.daemon.console"))
        assert package.loader is not None
        texts = {name: package.loader.get_source(package, name)[0] for name in package.list_templates()}
        environment = Environment(
            loader=DictLoader(texts),
            autoescape=True,
            auto_reload=False,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            advice=advice,
            ago=ago,
            bytes=in_bytes,
            clock=clock,
            figure=figure,
            joules=joules,
            percent=percent,
            words=words,
        )
        environment.globals.update(splits=_SPLITS, sources=_SOURCES)
        return cls(version, environment)

    def render(
        self, request: Request, template: str, *, status_code: int = 200, **values: Any
    ) -> HTMLResponse:
        """Render a template with what every page needs."""
        text = self.environment.get_template(template).render(
            {
                "path": request.url.path,
                "navigation": NAVIGATION,
                "csrf": str(getattr(request.state, "csrf", "")),
                "asset": f"/static/{self.version}",
                **values,
            }
        )
        return HTMLResponse(text, status_code)


@dataclass(frozen=True)
class Site:
    """The parts of a running console."""

    link: DaemonLink
    hub: Hub
    pages: Pages


def site_of(request: Request) -> Site:
    """The site that a request came to."""
    found = request.app.state.site
    assert isinstance(found, Site)
    return found


def figure(value: object, digits: int = 3) -> str:
    """A number for people; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction of 1 in percent."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def joules(value: float | None) -> str:
    """Joules with a unit that fits."""
    if value is None:
        return "–"
    for limit, unit in ((1e6, "MJ"), (1e3, "kJ")):
        if abs(value) >= limit:
            return f"{value / limit:,.1f} {unit}"
    return f"{value:,.0f} J" if abs(value) >= 10 else f"{value:.2f} J"


def in_bytes(value: float | None) -> str:
    """Bytes with a unit that fits."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.0f} B"


def clock(seconds: float | None) -> str:
    """Seconds since the epoch as the board's local time."""
    if seconds is None:
        return "–"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):  # a sender's clock may say anything
        return f"{seconds:.0f} s"


def ago(seconds: float | None) -> str:
    """How long ago, in the largest unit that fits twice."""
    if seconds is None:
        return "–"
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "now" if seconds < 1 else f"{seconds:.0f} s ago"


def words(text: str | None) -> str:
    """A name of the code for people: ``rolled_back`` is rolled back."""
    return "–" if not text else text.replace("_", " ")


def swatches(status: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Classes with their numbers and colours."""
    return list(_swatches(status.get("classes") or (), status.get("palette") or ()))


def _swatches(names: Sequence[str], palette: Sequence[Sequence[int]]) -> Iterator[Mapping[str, Any]]:
    for number, (name, (red, green, blue)) in enumerate(zip(names, palette, strict=False)):
        yield {"number": number, "name": name, "colour": f"#{red:02x}{green:02x}{blue:02x}"}
