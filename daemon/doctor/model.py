"""The doctor's check of the live model: whether it is the one that the configuration asks for."""

from __future__ import annotations

import json

from dance_ondevice.daemon.config.sections import Config
from dance_ondevice.daemon.doctor.finding import Check
from dance_ondevice.daemon.system.state import StatePaths
from dance_ondevice.daemon.versions import base, classes
from dance_ondevice.files import read_regular


def check_model(config: Config, paths: StatePaths) -> Check:
    """Check that the state folder has the model and the classes that the configuration asks for."""
    name = "model"
    kept, asked = classes.known(paths), tuple(config.model.classes)
    if kept and kept != asked:
        problem = classes.problem("", paths, kept, asked)
        return Check(name, "failure", f"model.classes is {problem.found}", f"set it to {problem.allowed}")
    if not paths.live_file.is_file():
        return Check(name, "ok", "none yet; the first start makes it")
    try:
        version = str(json.loads(read_regular(paths.live_file))["version"])
        card = json.loads(read_regular(paths.models / version / "card.json"))
        found = base.changes(base.wanted(config), version, card, base.taken(paths))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = (
            "the next start puts the version before in its place; `dance-ondevice models list` shows them"
        )
        return Check(name, "warning", f"the live model cannot be read: {error}", remedy)
    if base.is_untrained(card):
        remedy = (
            "the next start takes it up: restart the daemon"
            if found
            else "label frames, or set model.weights to a trained model (docs/models.md)"
        )
        return Check(name, "warning", f"{version} is untrained: its masks mean nothing yet", remedy)
    if found:
        details = "; ".join(f"{each.key}: {each.text}" for each in found)
        return Check(name, "warning", details, "; ".join(each.remedy for each in found))
    return Check(name, "ok", f"{version} is live")
