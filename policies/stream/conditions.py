"""Condition of a camera (day, dusk, rain, headlights), recognised by the figures of its stream.

A condition is a point in the space of those figures with a spread, learnt from its first frames and fixed
from then on, so that a slow dusk cannot shift the day. Only frames that clearly belong to it count: frames of
the returning day must not make the dusk brighter. The first condition, ``base``, is that of the model's
training data. Confidence is not among the figures: it depends on the chosen condition, which it would then
influence.

The condition of a frame is chosen by likelihood (quadratic discriminant analysis), with measured spreads that
are shrunk towards the usual ones while frames are few (Friedman, "Regularized discriminant analysis", JASA
1989). The usual spread as a lower limit would make every steady condition wider than it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

__all__ = [
    "BASE",
    "FIGURES",
    "CameraState",
    "Condition",
    "ConditionRules",
    "State",
    "Step",
    "founded",
    "log_likelihood",
    "observe",
    "without",
]

#: Name of the condition that always exists.
BASE = "base"
#: Figures that distinguish conditions, each with its usual spread within one condition.
FIGURES: Mapping[str, float] = {
    "luma": 0.04,
    "contrast": 0.025,
    "warmth": 0.015,
    "tint": 0.01,
    "complexity": 0.05,
}

#: Weight of the usual spread of a figure, as a number of frames.
_USUAL_FRAMES = 16
#: Least spread as a share of the usual one, since neighbouring frames of a video are similar.
_LEAST_SHARE = 0.5

Vector = tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditionRules:
    """Rules to open, choose and merge conditions. Distances are in spreads of a condition.

    Attributes:
        most: Largest number of conditions, ``base`` included.
        min_frames: Number of frames that must agree before a condition is opened.
        fit: Largest distance of a frame that belongs to the condition. With five figures, one in thirty
            frames of the condition itself is farther away.
        margin: Logarithm of the likelihood ratio by which a frame must be likelier in another condition to
            count for a switch, and in its own to be learnt from; for ``base`` it need only be likelier, since
            the model knows that condition best.
        switch_frames: Number of frames in a row that must count for the same switch.
        settle_frames: Number of frames that centre and spread are learnt from.
        settle_base_frames: The same number for ``base``, which is as wide as the model's training data.
        merge: Distance of centres up to which two conditions are merged.
        odd_share: Share of the frames of a new condition that may disagree with the others.

    Raises:
        ValueError: A value is impossible; the message names it and what is allowed.
    """

    most: int = 8
    min_frames: int = 16
    fit: float = 3.5
    margin: float = 1.0
    switch_frames: int = 3
    settle_frames: int = 64
    settle_base_frames: int = 512
    merge: float = 2.0
    odd_share: float = 0.125

    def __post_init__(self) -> None:
        for name, least in (("most", 1), ("min_frames", 4), ("switch_frames", 2), ("settle_frames", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; give {least} or more")
        if not 0 < self.merge < self.fit:
            raise ValueError(f"merge is {self.merge} and fit {self.fit}; give 0 < merge < fit")


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """One condition: its centre and spread.

    Attributes:
        name: Name ``base``, or ``c`` and a number that is never used again.
        parent: Condition that was current when this one was opened.
        frames: Number of frames that centre and spread were learnt from.
        mean: Centre, in the order of ``FIGURES``.
        squares: Sums of squared deviations from the centre.
        uses: Number of frames for which it was chosen.
    """

    name: str
    parent: str = BASE
    frames: int
    mean: Vector
    squares: Vector
    uses: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraState:
    """State of one camera.

    Attributes:
        current: Name of its current condition.
        challenger: Condition that the last frames counted for, "" for none.
        streak: Number of those frames in a row.
        strange: Latest frames that fitted no condition.
        alarmed: True if drift was found that no known condition has explained yet, and for a new camera.
        calm: Number of frames in a row that fitted a known condition.
    """

    current: str = BASE
    challenger: str = ""
    streak: int = 0
    strange: tuple[Vector, ...] = ()
    alarmed: bool = True
    calm: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """All conditions and cameras; `observe` returns the next one.

    Attributes:
        conditions: Known conditions, oldest first; ``base`` is the first.
        cameras: States of the cameras by name.
        founder: Camera whose first frames define ``base``.
        opened: Number of conditions opened so far, for their names.
    """

    conditions: tuple[Condition, ...] = ()
    cameras: Mapping[str, CameraState] = field(default_factory=dict)
    founder: str = ""
    opened: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """Changes by one frame.

    Attributes:
        condition: Condition of the camera now.
        switched: True if it was in another condition before.
        strange: True if the frame fitted no known condition.
        opened: Name of a condition that was opened.
        merged: Name of a condition that was merged, and of the one that it is part of now.
        dropped: Name of a condition that was removed for a new one.
        settled: Name of a condition whose centre and spread are fixed from now on.
    """

    condition: str
    switched: bool = False
    strange: bool = False
    opened: str = ""
    merged: tuple[str, str] | None = None
    dropped: str = ""
    settled: str = ""


def without(state: State, camera: str) -> State:
    """What is known when a camera is forgotten; the conditions that it opened stay."""
    return replace(state, cameras={name: each for name, each in state.cameras.items() if name != camera})


def observe(
    rules: ConditionRules, state: State, camera: str, figures: Mapping[str, float], *, drift: bool
) -> tuple[State, Step]:
    """Take in one frame of a camera and choose its condition.

    Args:
        rules: Rules to open, choose and merge conditions.
        state: State before this frame.
        camera: Name of the camera.
        figures: Figures of the frame, at least those of ``FIGURES``.
        drift: True if the drift detector raised an alarm on this frame.

    Returns:
        The state after this frame, and the changes.

    Raises:
        ValueError: A figure is missing or not finite.
    """
    vector = _vector(figures)
    known = state.cameras.get(camera, CameraState())
    known = replace(known, alarmed=known.alarmed or drift)
    if not state.conditions or (state.founder == camera and state.conditions[0].frames < rules.min_frames):
        return _found(state, camera, known, vector)
    state = replace(state, cameras={**state.cameras, camera: known})
    distances = {condition.name: distance(condition, vector) for condition in state.conditions}
    if min(distances.values()) > rules.fit:
        return _strange(rules, state, camera, vector)
    return _fitting(rules, state, camera, vector, distances)


def founded(frames: Iterable[Mapping[str, float]], camera: str) -> State:
    """Make a state in which ``base`` is learnt from a camera's frames of the model's training domain.

    Raises:
        ValueError: A figure of a frame is missing or not finite, see ``FIGURES``.
    """
    state = State()
    for figures in frames:
        state, _ = _found(state, camera, CameraState(), _vector(figures))
    return state


def distance(condition: Condition, vector: Vector) -> float:
    """Return the Euclidean distance of a frame from a condition, each figure in units of its spread."""
    spreads = _spreads(condition)
    return math.sqrt(sum(((x - m) / s) ** 2 for x, m, s in zip(vector, condition.mean, spreads, strict=True)))


def log_likelihood(condition: Condition, vector: Vector) -> float:
    """Return the likelihood of a frame in a condition: the logarithm of a normal density, up to a constant.

    A wider condition has a lower density at each point, so that it does not absorb its neighbours.
    """
    volume = sum(math.log(s / u) for s, u in zip(_spreads(condition), FIGURES.values(), strict=True))
    return -(distance(condition, vector) ** 2) / 2 - volume


def _vector(figures: Mapping[str, float]) -> Vector:
    missing = [name for name in FIGURES if not math.isfinite(figures.get(name, math.nan))]
    if missing:
        raise ValueError(f"a frame needs finite figures for {', '.join(missing)}; found {dict(figures)}")
    return tuple(float(figures[name]) for name in FIGURES)


def _spreads(condition: Condition) -> Vector:
    """Return the root of the mean of the measured variance and the usual one, weighted by their frames."""
    weight = condition.frames + _USUAL_FRAMES
    return tuple(
        max(_LEAST_SHARE * usual, math.sqrt((square + _USUAL_FRAMES * usual**2) / weight))
        for usual, square in zip(FIGURES.values(), condition.squares, strict=True)
    )


def _found(state: State, camera: str, known: CameraState, vector: Vector) -> tuple[State, Step]:
    """Learn ``base`` from the first frames of all."""
    first = state.conditions[0] if state.conditions else _empty(BASE, BASE)
    base = _used(_learnt(first, vector))
    cameras = {**state.cameras, camera: replace(known, alarmed=False)}
    found = replace(
        state, conditions=(base, *state.conditions[1:]), cameras=cameras, founder=state.founder or camera
    )
    return found, Step(condition=BASE)


def _fitting(
    rules: ConditionRules, state: State, camera: str, vector: Vector, distances: Mapping[str, float]
) -> tuple[State, Step]:
    known = state.cameras[camera]
    likely = {c.name: log_likelihood(c, vector) for c in state.conditions if distances[c.name] <= rules.fit}
    likeliest = max(likely, key=lambda name: likely[name])
    speaks = likeliest != known.current and _clearly(rules, likeliest, likely, [known.current])
    streak = 0 if not speaks else known.streak + 1 if known.challenger == likeliest else 1
    switched = streak >= rules.switch_frames
    calm = known.calm + 1
    current = likeliest if switched else known.current
    after = CameraState(
        current=current,
        challenger="" if switched or not speaks else likeliest,
        streak=0 if switched else streak,
        # One frame that fits takes two back: a passing lorry never adds up to a condition.
        strange=known.strange[2:],
        alarmed=known.alarmed and calm < rules.min_frames,
        calm=calm,
    )
    own = current == likeliest and _clearly(rules, current, likely, likely)
    conditions, settled = [], ""
    for condition in state.conditions:
        found = condition
        if condition.name == current:
            found = _used(condition)
            enough = rules.settle_base_frames if current == BASE else rules.settle_frames
            if own and condition.frames < enough:
                found = _learnt(found, vector)
                settled = current if found.frames == enough else ""
        conditions.append(found)
    state = replace(state, conditions=tuple(conditions), cameras={**state.cameras, camera: after})
    state, merged = _merged(rules, state)
    step = Step(condition=state.cameras[camera].current, switched=switched, merged=merged, settled=settled)
    return state, step


def _clearly(rules: ConditionRules, name: str, likely: Mapping[str, float], others: Iterable[str]) -> bool:
    """Return whether a frame is likelier, by the margin, in a condition than in the others that it fits."""
    margin = 0.0 if name == BASE else rules.margin
    return all(likely[name] > likely[other] + margin for other in others if other in likely and other != name)


def _strange(rules: ConditionRules, state: State, camera: str, vector: Vector) -> tuple[State, Step]:
    known = state.cameras[camera]
    strange = (*known.strange, vector)[-rules.min_frames :]
    after = replace(known, strange=strange, calm=0)
    conditions = tuple(_used(c) if c.name == known.current else c for c in state.conditions)
    state = replace(state, conditions=conditions, cameras={**state.cameras, camera: after})
    waiting = Step(condition=known.current, strange=True)
    if not known.alarmed or len(strange) < rules.min_frames:
        return state, waiting
    agreeing = _agreeing(rules, strange)
    if len(agreeing) < (1 - rules.odd_share) * len(strange):
        return state, waiting
    room = _without_least_used(rules, state)
    if room is None:
        return state, waiting
    state, dropped = room
    name = f"c{state.opened + 1}"
    condition = _empty(name, state.cameras[camera].current)
    for vector_of_it in agreeing:
        condition = _learnt(condition, vector_of_it)
    state = replace(
        state,
        conditions=(*state.conditions, condition),
        cameras={**state.cameras, camera: CameraState(current=name, alarmed=False)},
        opened=state.opened + 1,
    )
    return state, Step(condition=name, switched=True, strange=True, opened=name, dropped=dropped)


def _agreeing(rules: ConditionRules, vectors: Sequence[Vector]) -> list[Vector]:
    """Return the vectors around the median of all, which a few outliers do not move."""
    median = tuple(sorted(column)[len(vectors) // 2] for column in zip(*vectors, strict=True))
    centre = Condition(name="", frames=1, mean=median, squares=tuple(0.0 for _ in median))
    return [vector for vector in vectors if distance(centre, vector) <= rules.fit]


def _without_least_used(rules: ConditionRules, state: State) -> tuple[State, str] | None:
    """Return the state without its least used condition, if it is full; None while all others are current."""
    if len(state.conditions) < rules.most:
        return state, ""
    in_use = {camera.current for camera in state.cameras.values()} | {BASE}
    free = [condition for condition in state.conditions if condition.name not in in_use]
    if not free:
        return None
    least = min(free, key=lambda condition: condition.uses).name
    cameras = {
        name: replace(camera, challenger="", streak=0) if camera.challenger == least else camera
        for name, camera in state.cameras.items()
    }
    # Old uses count half from now on: a winter's snow gives way to the lights of a summer, of which each
    # would else take the place of the one before it, every day anew.
    conditions = tuple(
        replace(condition, uses=condition.uses // 2)
        for condition in state.conditions
        if condition.name != least
    )
    return replace(state, conditions=conditions, cameras=cameras), least


def _merged(rules: ConditionRules, state: State) -> tuple[State, tuple[str, str] | None]:
    """Merge the first two conditions that agree; the older one's name stays."""
    for index, older in enumerate(state.conditions):
        for younger in state.conditions[index + 1 :]:
            # Both distances must be small: a wide condition must not absorb a narrow one.
            if max(distance(older, younger.mean), distance(younger, older.mean)) > rules.merge:
                continue
            one = replace(older, uses=older.uses + younger.uses)
            conditions = tuple(one if c is older else c for c in state.conditions if c is not younger)
            cameras = {
                name: _renamed(camera, younger.name, older.name) for name, camera in state.cameras.items()
            }
            return replace(state, conditions=conditions, cameras=cameras), (younger.name, older.name)
    return state, None


def _renamed(camera: CameraState, gone: str, kept: str) -> CameraState:
    current = kept if camera.current == gone else camera.current
    challenged = camera.challenger in (gone, kept)
    return replace(
        camera,
        current=current,
        challenger="" if challenged else camera.challenger,
        streak=0 if challenged else camera.streak,
    )


def _empty(name: str, parent: str) -> Condition:
    nothing = tuple(0.0 for _ in FIGURES)
    return Condition(name=name, parent=parent, frames=0, mean=nothing, squares=nothing)


def _used(condition: Condition) -> Condition:
    return replace(condition, uses=condition.uses + 1)


def _learnt(condition: Condition, vector: Vector) -> Condition:
    """Update centre and spread by Welford's method."""
    frames = condition.frames + 1
    offs = [x - m for x, m in zip(vector, condition.mean, strict=True)]
    mean = tuple(m + off / frames for m, off in zip(condition.mean, offs, strict=True))
    squares = tuple(
        s + off * (x - m) for s, off, x, m in zip(condition.squares, offs, vector, mean, strict=True)
    )
    return replace(condition, frames=frames, mean=mean, squares=squares)
