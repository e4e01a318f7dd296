"""Choice of the power channels that are the board, that are its parts, and that must not be counted.

A channel that is known to feed the board is preferred to every sum. Power that several channels measure is
counted once: of an input, the total behind it and the parts of that, only the outermost is the board.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dance_ondevice.energy.reading import Scope, SourceMeter
from dance_ondevice.energy.sensors import COUNTER_PERIOD_S, POWER_PERIOD_S, Sample, SensorMeter
from dance_ondevice.energy.supply.chain import Chain
from dance_ondevice.energy.supply.channel import Channel
from dance_ondevice.energy.supply.labels import Role, is_adapter, kind_of, plain
from dance_ondevice.energy.sysfs import UNREADABLE, reason
from dance_ondevice.energy.tracks import MAX_WATTS

#: Voltage of a lithium cell in use; boards have a higher input, and a set of rails has more than two sensors.
_CELL_VOLTS = (2.5, 4.5)
_FEW_SENSORS = 2
#: Least voltage of a line that feeds a board; a line with less is a rail.
_FEED_VOLTS = 4.5
#: Tolerance factor, since the sensors of a line and of its loads are not read at one instant.
_TOLERANCE = 1.05
#: Largest relative differences of voltage and power of two sensors in one line.
_SAME_VOLTS, _SAME_WATTS = 0.1, 0.2
#: Negative power in watts beyond the noise of a line that feeds a board.
_BACKFLOW_WATTS = 0.05
#: Rails that are branches of another rail of the same board.
_BRANCHES: Mapping[str, str] = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
_IN, _OUT = re.compile(r"in\d*"), re.compile(r"out\d*")
#: Kinds of chip whose several unnamed channels are known to nest: the largest is the whole.
_NESTING = frozenset({"power_meter"})


#: Scopes of channels that are known to feed the whole board or module.
FEEDING: frozenset[Scope] = frozenset({"board", "module"})


@dataclass(frozen=True)
class Choice:
    """One interpretation of a set of channels.

    Attributes:
        whole: Channels that do not overlap and are summed.
        parts: Channels of their parts, which are shown but never added.
        scope: Part of the machine that the whole measures.
        why: Facts that support the choice, in words.
    """

    whole: tuple[Channel, ...]
    parts: tuple[Channel, ...]
    scope: Scope
    why: str


def choices(
    found: Sequence[Channel], *, beside: Sequence[Channel] = (), battery: bool = False
) -> tuple[list[Choice], list[str]]:
    """List the interpretations of a set of channels, best first, and reasons for channels left out.

    Args:
        found: Channels of the source's chips.
        beside: Rails that another source reads; they are parts of the board, never summed here.
        battery: True if the machine has a battery, so that the power adapter's output is not its consumption.
    """
    dropped: list[str] = []
    live = [channel for channel in found if _counts(channel, dropped)]
    rails = [channel for channel in live if channel.role > Role.MODULE]
    inner = [*rails, *(channel for channel in beside if channel.role > Role.MODULE)]
    result = [
        Choice(group, _shown(group, tuple(inner)), _scope(group), _feeds(group))
        for group in _feeding_groups(live, battery=battery)
    ]
    result += _unnamed(rails, list(beside), dropped)
    return [spared for choice in result for spared in _with_spares(choice)], dropped


def meter_of_best(
    source: str,
    options: Sequence[Choice],
    about: Callable[[Choice], str],
    *,
    dropped: Sequence[str] = (),
    locate: Callable[[], None] = lambda: None,
) -> SourceMeter:
    """Make a meter of the first plausible choice, with the later ones as its fallbacks.

    A choice that feeds the board falls back to others that do. Sums of parts, which are less than the board,
    are used only if no such choice is plausible at the start.

    Args:
        source: Name of the source.
        options: Choices, best first, at least one.
        about: Function that describes the sensors of a choice in words.
        dropped: Channels left out with reasons, for the user.
        locate: Function that is called before each sample, to find chips that have moved.
    """
    meters = []
    for option in options:
        meter = meter_of(source, option, about(option), locate)
        meter.about = "; ".join((meter.about, *(f"left out: {why}" for why in dropped)))
        meters.append(meter)
    feeding = [meter for meter in meters if meter.scope in FEEDING]
    usable = feeding if any(not meter.glance().doubt for meter in feeding) else meters
    return Chain(usable) if len(usable) > 1 else usable[0]


def meter_of(
    source: str, choice: Choice, about: str, locate: Callable[[], None] = lambda: None
) -> SensorMeter:
    """Make a meter of one choice.

    Args:
        source: Name of the source.
        choice: Channels of the whole and of its parts.
        about: Description of the sensors in words.
        locate: Function that is called before each sample, to find chips that have moved.
    """
    named = dict(zip(_names(choice), (*choice.whole, *choice.parts), strict=True))
    whole = dict(list(named.items())[: len(choice.whole)])
    parts = dict(list(named.items())[len(choice.whole) :])
    tracks = {name: channel.track() for name, channel in whole.items()}
    words = f"{about}: {choice.why}" if choice.why else f"{about}: {' + '.join(whole)}, {_UNKNOWN}"
    if parts:
        words += f" ({', '.join(parts)} {'are parts' if len(parts) > 1 else 'is a part'} of it)"
    #: Lines in which current has flowed backwards.
    both_ways: set[str] = set()

    def sample() -> Sample:
        values, faults = {}, {}
        locate()
        for name, channel in named.items():
            try:
                value = channel.value()
            except UNREADABLE as error:
                faults[name] = reason(error)
                continue
            if name in whole and channel.kind == "power" and not channel.named:
                if value < -_BACKFLOW_WATTS:
                    both_ways.add(name)
                if name in both_ways:
                    faults[name] = f"{name}: {_BOTH_WAYS}"
                    continue
            values[name] = value
        return Sample(values, faults)

    counted = all(track.method == "counter" for track in tracks.values())
    return SensorMeter(
        source=source,
        about=words,
        period_s=COUNTER_PERIOD_S if counted else POWER_PERIOD_S,
        sample=sample,
        whole=tracks,
        parts={name: channel.track() for name, channel in parts.items()},
        scope=choice.scope,
    )


_UNKNOWN = "none of which is known to feed the whole board"
_BOTH_WAYS = "current flows in both directions in this line: it is a battery's, and not the board's input"


def _counts(channel: Channel, dropped: list[str]) -> bool:
    if channel.role is Role.BATTERY:
        dropped.append(f"{channel.name} of {channel.chip} lies in a battery's line")
    return channel.role < Role.BATTERY


def _feeding_groups(found: Sequence[Channel], *, battery: bool) -> Iterator[tuple[Channel, ...]]:
    """Yield channels that feed the board, outermost first: supplies of one kind together, others alone."""
    groups: dict[tuple[str, str], list[Channel]] = {}
    for channel in found:
        if channel.is_board:
            groups.setdefault((channel.chip, kind_of(channel.label)), []).append(channel)
    single: list[tuple[Channel, ...]] = []
    for (chip, kind), group in groups.items():
        together = len({channel.device for channel in group}) == len(group) and (kind or chip not in _NESTING)
        single += [tuple(group)] if together else [(channel,) for channel in group]

    def order(group: tuple[Channel, ...]) -> tuple[bool, int, float]:
        # While the battery feeds the board the adapter gives no power; otherwise it charges the battery, too.
        return battery and is_adapter(group[0].label), group[0].role, -_watts(group)

    yield from sorted(single, key=order)


def _unnamed(rails: list[Channel], beside: list[Channel], dropped: list[str]) -> list[Choice]:
    """Return choices for channels without a label that says that they feed the board."""
    if not rails:
        return []
    few = len(rails) <= _FEW_SENSORS
    usable = []
    for channel in rails:
        why = "" if channel.named else _battery_signs(channel, few=few)
        if why:
            dropped.append(f"{channel.name} {why}")
        else:
            usable.append(channel)
    unnamed = [channel for channel in usable if not channel.named]
    named = [channel for channel in usable if channel.named]
    lines = [channel for channel in unnamed if (volts := channel.volts_now()) is None or volts >= _FEED_VOLTS]
    if not usable:
        return []
    if not lines:
        return [_rails(usable)]
    behind = [*(channel for channel in unnamed if channel not in lines), *named]
    result = []
    feed = _outermost(lines)
    for group in dict.fromkeys((feed, tuple(lines))):
        parts = tuple(channel for channel in (*lines, *behind, *beside) if channel not in group)
        if _watts(group) * _TOLERANCE < _watts(tuple(named)):
            continue  # the named rails draw more, so these lines do not feed them
        known = bool(beside) and _watts(group) * _TOLERANCE >= _load(beside)
        why = (
            f"{' + '.join(c.name for c in group)} carries more than all rails that have names"
            if known
            else ""
        )
        result.append(Choice(group, _shown(group, parts), "board" if known else "supply", why))
    return result or [_rails(usable)]


def _load(rails: Sequence[Channel]) -> float:
    """Return the watts of the rails of one board: of its module's input if there is one, else of all."""
    modules = [channel.watts_now() or 0.0 for channel in rails if channel.is_board]
    return max(modules) if modules else _watts(rails)


def _scope(group: tuple[Channel, ...]) -> Scope:
    return "module" if group[0].role is Role.MODULE else "board"


def _rails(found: Sequence[Channel]) -> Choice:
    """Choose the sum of all rails, without those that branch off another one, and outputs without inputs."""
    labels = {channel.label for channel in found}
    inputs = {channel.device for channel in found if _IN.fullmatch(plain(channel.label))}
    branches = [
        channel
        for channel in found
        if _BRANCHES.get(channel.label) in labels
        or (channel.device in inputs and _OUT.fullmatch(plain(channel.label)))
    ]
    subtotals = [channel for channel in found if channel.role is Role.SUBTOTAL]
    whole = tuple(channel for channel in found if channel not in branches and channel not in subtotals)
    if not whole:
        whole, branches = tuple(found), []
    return Choice(whole, tuple(branches), "part", "")


def _outermost(lines: Sequence[Channel]) -> tuple[Channel, ...]:
    """Return of lines without names the one that feeds all others if there is one, else all of them."""
    known = [(volts, channel) for channel in lines if (volts := channel.volts_now()) is not None]
    if len(lines) < 2 or len(known) < len(lines):
        return tuple(lines)
    (volts, top), *others = sorted(known, key=lambda pair: pair[0], reverse=True)
    rest = tuple(channel for _, channel in others)
    if volts > (1 + _SAME_VOLTS) * others[0][0]:
        return (top,) if _watts(rest) <= _TOLERANCE * _watts((top,)) else tuple(lines)
    if len(lines) == 2:
        low, high = sorted(lines, key=lambda channel: _watts((channel,)))
        if _watts((low,)) > (1 - _SAME_WATTS) * _watts((high,)) > 0:
            return (high,)
    return tuple(lines)


def _battery_signs(channel: Channel, *, few: bool) -> str:
    """Return why a channel without a name counts as one in a battery's line; empty if it does not."""
    watts, volts = channel.watts_now(), channel.volts_now()
    shown = f"({channel.device})" if channel.device else ""
    if few and watts is not None and watts < -_BACKFLOW_WATTS:
        return f"{shown} reads {watts:.2f} W: {_BOTH_WAYS}".strip()
    if few and volts is not None and _CELL_VOLTS[0] <= volts < _CELL_VOLTS[1]:
        seen = f"{shown} reads {volts:.2f} V".strip()
        return f"{seen}: the voltage of a battery, or of a rail, and not of what feeds a board"
    return ""


def _shown(group: tuple[Channel, ...], parts: tuple[Channel, ...]) -> tuple[Channel, ...]:
    """Return the parts that can be shown beside a whole: no sums of others, and none if they overlap."""
    labels = {part.label for part in parts}
    shown = tuple(
        part
        for part in parts
        if part.role is not Role.SUBTOTAL
        and _BRANCHES.get(part.label) not in labels
        and part.role < Role.BATTERY
    )
    return shown if _watts(shown) <= _TOLERANCE * (_watts(group) or MAX_WATTS) else ()


def _watts(group: Sequence[Channel]) -> float:
    return sum(max(0.0, channel.watts_now() or 0.0) for channel in group)


def _feeds(group: tuple[Channel, ...]) -> str:
    names = " + ".join(channel.name for channel in group)
    verb = "feed" if len(group) > 1 else "feeds"
    if group[0].role is Role.MODULE:
        return f"{names} {verb} the module; the rest of the carrier board (USB, NVMe, fan) is not measured"
    return f"{names} {verb} the whole board"


def _with_spares(choice: Choice) -> Iterator[Choice]:
    yield choice
    if any(channel.spare is not None for channel in choice.whole):
        yield replace(choice, whole=tuple(channel.spare or channel for channel in choice.whole))


def _names(choice: Choice) -> list[str]:
    """Return a domain name for each channel: ``board``, its label, or the chip's name; numbered if needed."""
    names: list[str] = []
    one = choice.scope in FEEDING and len(choice.whole) == 1
    for number, channel in enumerate((*choice.whole, *choice.parts)):
        base = "board" if one and number == 0 else channel.label if plain(channel.label) else channel.chip
        name = base
        while name in names:
            name = f"{base}-{sum(n == base or n.startswith(f'{base}-') for n in names) + 1}"
        names.append(name)
    return names
