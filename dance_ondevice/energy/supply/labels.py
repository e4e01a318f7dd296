"""Meaning of the labels of power channels, as real drivers and device trees write them.

Sources of the names are in docs/boards.md.
"""

from __future__ import annotations

import re
from enum import IntEnum


class Role(IntEnum):
    """Role of a channel; inputs of the board come first, the outermost before the others."""

    INPUT = 0  #: input of the machine, losses of its supply included
    TOTAL = 1  #: draw of the whole machine behind its supply
    MODULE = 2  #: input of a module on a carrier board
    SUBTOTAL = 3  #: several parts together, which may have their own channels
    PART = 4
    BATTERY = 5  #: a line in which current flows both ways
    NO_POWER = 6  #: a limit, a budget or a contract in watts; nothing flows


#: Labels without a meaning.
_EMPTY = frozenset({"", "power", "energy", "ip im", "vp vm", "isense", "vsource", "vdd", "current", "ina"})
_ADAPTER = re.compile(r"(ac|dc|mains|wall|charger|adapter)\b.*")
_ROLES = (
    (Role.NO_POWER, r"(ewma )?(sys)?pl\d+|budget\b.*|.*\b(limit|cap|contract|rated|target)\b.*|nc"),
    (Role.BATTERY, r".*\b(batt?|bat\d*|battery|batteries|vbat\d*|vsys_bat|accu)\b.*|battery.*|charge power"),
    (
        Role.INPUT,
        r"((ac|dc|mains|wall|psu|supply|system|sys|board|machine|main|carrier) )?(in\d?|input)( power)?"
        r"|vin\d?|vin \d+v\d*|psu?\d* in(put)?( power)?"
        r"|(ac|dc)in|dcin power|(vbus|usb|usbc|usb c|\d+v\d*) in(put)?( power)?|power in(put)?"
        r"|vdd (12|19|20|24|48)v in|wall power",
    ),
    (
        Role.TOTAL,
        r"(power|system|sys|board|platform|machine|psu) total( power)?|systotal"
        r"|total( (system|board|platform|machine|input|output|chassis|server|node))?"
        r"( power| consumption)?( socket \d+)?"
        r"|(system|sys|board|platform|machine)( power)?",
    ),
    (Role.MODULE, r"vdd in|pom 5v in|5v in|module( (in|input|total|power)\b.*)?"),
    (
        Role.SUBTOTAL,
        r"grace power.*|grace|(soc )?(pkg|package)( power)?|cpu gpu|prereg|vcore|heatpipe.*"
        r"|.*\bsubtotal\b.*",
    ),
)
_PATTERNS = tuple((role, re.compile(pattern)) for role, pattern in _ROLES)
#: Chips of USB-C meters, which call their line VBUS; elsewhere that is an output to a USB device.
_LINE_METERS = frozenset({"powerz"})


def plain(label: str) -> str:
    """Normalise a label: lower case, with blanks between its words; ``""`` if it has no meaning."""
    text = " ".join(re.sub(r"[^a-z0-9.+]+", " ", label.lower()).split())
    return "" if text in _EMPTY else text


def role_of(label: str, chip: str) -> Role:
    """Return the role of a channel by its label and its chip's name."""
    text = plain(label)
    if chip in _LINE_METERS and text in ("vbus", "bus"):
        return Role.INPUT
    # 5V_IN and VDD_IN are inputs of modules, although they match the pattern of inputs of boards.
    if text in ("5v in", "pom 5v in", "vdd in"):
        return Role.MODULE
    return next((role for role, pattern in _PATTERNS if pattern.fullmatch(text)), Role.PART)


def is_adapter(label: str) -> bool:
    """Return whether an input is that of a power adapter, which gives no power while a battery is in use."""
    return _ADAPTER.fullmatch(plain(label)) is not None


def kind_of(label: str) -> str:
    """Return a label without its numbers: equal for the supplies of a machine that has several."""
    return re.sub(r"\d+", "#", plain(label))


def pair_key(label: str) -> str:
    """Return the common part of the labels of a line's voltage, current and power, such as VBUS and IBUS."""
    text = re.sub(r"\b(voltage|volt|current|power|energy)\b", " ", label.lower())
    text = re.sub(r"[^a-z0-9.+]+", " ", text).strip()
    return text[1:] if len(text) > 1 and text[0] in "vip" else text
