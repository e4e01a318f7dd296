"""The style of the benchmarks' figures: SVG files whose bytes depend on the data alone."""

from __future__ import annotations

from dance_ondevice.extras import install_command


def no_matplotlib() -> str:
    """Line for the user where no figure can be drawn."""
    return f"no plot: it needs matplotlib, {install_command('plots')}"


def svg_style() -> bool:
    """Set up matplotlib for SVG files; returns whether it is installed."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError:
        return False
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "dance", "svg.fonttype": "none", "font.size": 9})
    return True
